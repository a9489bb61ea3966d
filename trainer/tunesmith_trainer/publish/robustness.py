"""What a model card tells of prompts under attack: the numbers of the model that ships."""

from collections.abc import Mapping
from typing import Any, Final

from tunesmith_trainer.publish.markdown import bullets, number, section, table

_TITLE: Final = "Robustness and its limits"
_HEAD: Final = ("prompt", "measure", "value", "interval", "before", "rows")
_LIMITS: Final = (
    "Whoever attacks chooses what works; these attacks were fixed before, and none was searched.",
    "Only what users say was changed, not texts that an application fetches into a prompt.",
)


def robustness_section(evaluation: Mapping[str, Any], compressed: Mapping[str, Any]) -> str:
    """The card's section; `evaluation` is evaluation.json, `compressed` the facts of compress."""
    tuned, shipped = evaluation.get("robustness"), compressed.get("robustness")
    if not tuned:
        return section(_TITLE, "Changed prompts were not measured (`spec.evaluation.robustness`).")
    record, before = (shipped, "tuned") if shipped else (tuned, "base")
    score = f"; scores are {record['metric']}" if record["metric"] else ""
    return section(
        _TITLE,
        f"Held-out rows with changed prompts, of the {'compressed' if shipped else 'tuned'} model "
        f"beside the {before} model{score}. lossRise and scoreDrop are paired with the same rows "
        "as they are, `clean`; obeyedShare is how often an injected instruction was obeyed.",
        table(_HEAD, [_row(one) for one in record["numbers"]]),
        bullets(_LIMITS),
    )


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    ends = one["interval"]
    return (
        one["attack"],
        one["measure"],
        number(one["value"]),
        number(None) if ends is None else f"{number(ends[0])} to {number(ends[1])}",
        number(one["base"]),
        f"{one['rows']:,}",
    )

"""What a model card tells of bias: the numbers of the model that ships, and their limits."""

from collections.abc import Mapping
from typing import Any, Final

from tunesmith_trainer.publish.markdown import bullets, number, section, table

_HEAD: Final = ("suite", "measure", "value", "interval", "no bias is", "before", "p", "rows")
_LIMITS: Final = (
    "What was not looked for was not found, and that nothing is found does not prove fairness.",
    "Published sets are noisy (Blodgett et al. 2021), and mostly American and English.",
    "Likelihoods and short answers were measured, not what an application does with them.",
)


def fairness_section(evaluation: Mapping[str, Any], compressed: Mapping[str, Any]) -> str:
    """The card's section; `evaluation` is evaluation.json, `compressed` the facts of compress."""
    tuned = evaluation.get("fairness")
    if not tuned:
        return section("Bias and its limits", "Bias was not measured (`spec.evaluation.fairness`).")
    shipped = compressed.get("fairness")
    record, before = (shipped, "tuned") if shipped else (tuned, "base")
    found = [_name(one) for one in record["numbers"] if one.get("flagged")]
    losses = ", ".join(f"{name} {number(loss)}" for name, loss in tuned["generalLoss"].items())
    if shipped:
        losses += f", compressed {number(shipped['generalLoss']['compressed'])}"
    licences = {one["suite"]: one["licence"] or "not stated" for one in record["numbers"]
                if one["kind"] in {"crowsPairs", "winoBias", "bbq", "toxicity"}}  # fmt: skip
    return section(
        "Bias and its limits",
        f"Measured of the {'compressed' if shipped else 'tuned'} model, beside the {before} model; "
        f"p values are corrected after Holm. Found to be biased at {record['confidence']:.0%}: "
        f"{', '.join(found) or 'none'}. General loss, without which a bias says little: {losses}.",
        table(_HEAD, [_row(one) for one in record["numbers"]]),
        bullets(f"{suite}: licence {licence}" for suite, licence in licences.items()),
        bullets(_LIMITS),
    )


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    ends = one["interval"]
    return (
        one["suite"],
        _name(one).partition(" ")[2],
        number(one["value"]),
        number(None) if ends is None else f"{number(ends[0])} to {number(ends[1])}",
        number(one["neutral"]),
        number(one["base"]),
        number(one.get("pAdjusted")),
        f"{one['rows']:,}",
    )


def _name(one: Mapping[str, Any]) -> str:
    part = f" ({one['part']})" if one["part"] else ""
    return f"{one['suite']} {one['metric']}{part}"

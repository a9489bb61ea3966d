"""What a model card tells of highlights: by what the model that ships decides."""

from collections.abc import Mapping
from typing import Any, Final

from tunesmith_trainer.publish.markdown import number, section, table

_TITLE: Final = "What it decides by"
_HEAD: Final = ("model", "share on highlights", "interval", "before", "change", "by chance", "rows")


def highlights_section(
    evaluation: Mapping[str, Any], compressed: Mapping[str, Any], *, is_trained: bool
) -> list[str]:
    """The card's section, where held-out rows have highlights.

    `evaluation` is evaluation.json, `compressed` the facts of compress.
    """
    named = (
        ("tuned, before: the base", evaluation.get("highlights")),
        ("compressed, before: the tuned", compressed.get("highlights")),
    )
    rows = [_row(name, record) for name, record in named if record]
    if not rows:
        return []
    trained = (
        "It was trained to, by the gradients of training rows (`spec.training.explanation`)."
        if is_trained
        else "It was not trained to."
    )
    return [
        section(
            _TITLE,
            "How much of what moves the answers lies on the words that people highlighted as their "
            "reason (`spec.dataset.highlights`): each word of a held-out prompt was left out once, "
            "and what that does to the likelihood of the wanted answer counted, whichever way. "
            f"{trained} By chance is the part of the words that is highlighted.",
            table(_HEAD, rows),
            "Words that do something only together are counted too low, and a model that looks at "
            "the right words may still be wrong.",
        )
    ]


def _row(name: str, record: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        number(record["share"]),
        _ends(record["interval"]),
        number(record["base"]),
        _ends(record["change"]),
        number(record["chance"]),
        f"{record['rows']:,}",
    )


def _ends(ends: list[float] | None) -> str:
    return number(None) if ends is None else f"{number(ends[0])} to {number(ends[1])}"

"""What a model card tells of the formats for devices."""

from collections.abc import Sequence
from typing import Final

from tunesmith_api.results import ExportedFormat
from tunesmith_trainer.publish.markdown import number, section, table

_MIB: Final = 1 << 20
_HEAD: Final = ("folder", "MiB", "loss", "rise", "at most", "equal tokens", "ran in")


def exports_section(formats: Sequence[ExportedFormat]) -> list[str]:
    """The card's section; none where the job makes no such formats."""
    if not formats:
        return []
    first = formats[0]
    larger = [f"`{each.path}`" for each in formats if each.is_larger]
    return [
        section(
            "Formats for devices",
            "Each folder has the model for another engine, and `chat.py`, which needs no server. "
            f"Losses are nats per target token of {first.rows:,} held-out rows, beside the tuned "
            f"model's {number(first.tuned_loss)}; tokens are those of greedy answers that are "
            "equal to transformers' in fp32 before the first that differs. `model-version.yaml` "
            "has speed and memory on the machine that made them.",
            table(_HEAD, [_row(each) for each in formats]),
            f"Larger than the model in bf16 ({first.bf16_bytes / _MIB:,.0f} MiB): "
            f"{', '.join(larger)}."
            if larger
            else "",
        )
    ]


def _row(each: ExportedFormat) -> tuple[str, ...]:
    return (
        f"`{each.path}`",
        f"{each.bytes / _MIB:,.0f}",
        number(each.loss),
        f"{each.loss_rise:+.4f}",
        number(each.max_loss_rise),
        f"{each.agreed_tokens} of {each.compared_tokens}",
        each.engine,
    )

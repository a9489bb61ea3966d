"""What a format must keep of the tuned model, and what it may take."""

import math
from collections.abc import Callable, Sequence

from tunesmith_api.finetunejob.export import Export
from tunesmith_api.quantities import num_bytes
from tunesmith_api.reasons import Reason
from tunesmith_api.results import ExportedFormat
from tunesmith_engine.stages.contracts import StageOutcome
from tunesmith_engine.stages.errors import VerdictError

# The one precision that rounds nothing: its engine must say what transformers says.
EXACT = "fp32"


def refuse(
    formats: Sequence[ExportedFormat], settings: Export, *, findings: Callable[[], StageOutcome]
) -> None:
    """Return if every format is like the tuned model, and within the targets.

    Raises:
        VerdictError: one is not; all that were measured are in its findings.
    """
    lost = [why for each in formats for why in _lost(each)]
    if lost:
        raise VerdictError(
            Reason.EXPORT_PARITY_FAILED,
            f"{'; '.join(lost)}; choose a wider precision, or raise export.gate.maxLossRise.",
            findings=findings(),
        )
    missed = [why for each in formats for why in _missed(each, settings)]
    if missed:
        raise VerdictError(
            Reason.EXPORT_TARGET_MISSED,
            f"{'; '.join(missed)}; choose a narrower precision or a smaller model, or raise it.",
            findings=findings(),
        )


def require_finite(name: str, sums: Sequence[float]) -> None:
    """Return if the losses of a format's rows are numbers: half precision may overflow.

    Raises:
        VerdictError: one is not.
    """
    if not all(math.isfinite(loss) for loss in sums):
        raise VerdictError(
            Reason.EXPORT_PARITY_FAILED,
            f"{name}: the loss of a held-out row is no number; choose a wider precision.",
        )


def larger_warning(each: ExportedFormat) -> str | None:
    """That a format takes more than the model that it was made of, if it does."""
    if not each.is_larger:
        return None
    return (
        f"{each.name} takes {each.bytes:,} bytes, more than the model in bf16, which has "
        f"{each.bf16_bytes:,}."
    )


def _lost(each: ExportedFormat) -> list[str]:
    found = []
    if each.loss_rise > each.max_loss_rise:
        found.append(
            f"{each.name}: the held-out loss rose by {each.loss_rise:.4f} nats to {each.loss:.4f}, "
            f"more than {each.max_loss_rise:g}"
        )
    if not each.tokenizes_alike:
        found.append(f"{each.name}: its engine tokenizes held-out prompts otherwise")
    if each.precision == EXACT and each.differs:
        found.append(
            f"{each.name}: {each.compared_tokens - each.agreed_tokens} of {each.compared_tokens} "
            "greedy tokens follow a difference from transformers"
        )
    return found


def _missed(each: ExportedFormat, settings: Export) -> list[str]:
    found = []
    if settings.max_size is not None and each.bytes > num_bytes(settings.max_size):
        found.append(f"{each.name} takes {each.bytes:,} bytes, above maxSize: {settings.max_size}")
    peak = each.peak_memory_bytes or 0
    if settings.max_memory is not None and peak > num_bytes(settings.max_memory):
        found.append(
            f"{each.name} took {peak:,} bytes of memory, above maxMemory: {settings.max_memory}"
        )
    return found

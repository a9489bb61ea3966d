"""How much of the tuned model's quality a quantized one keeps, and what follows from it.

Recovery of a suite is the tuned model's loss divided by the compressed one's, at most 1; the
smallest of the suites counts. A scheme that keeps too little gives way to the next wider one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from tunesmith_api.finetunejob.compression import Compression
from tunesmith_trainer.compress.schemes import SCHEMES, SchemeName
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import mean_loss


@dataclass(frozen=True, slots=True)
class Try:
    """One scheme: what it kept, what it had to keep, and what it cost."""

    scheme: SchemeName
    recovery: dict[str, float]
    min_recovery: float
    seconds: float
    num_bytes: int

    @property
    def lowest(self) -> float:
        return min(self.recovery.values())

    @property
    def is_accepted(self) -> bool:
        return self.lowest >= self.min_recovery

    def as_json(self) -> JsonValue:
        return {
            "scheme": self.scheme,
            "recovery": dict(self.recovery),
            "minRecovery": self.min_recovery,
            "accepted": self.is_accepted,
            "seconds": round(self.seconds, 3),
            "bytes": self.num_bytes,
        }


def recovery_of(
    tuned: Mapping[str, RowLosses], compressed: Mapping[str, RowLosses]
) -> dict[str, float]:
    """Recovery of each suite, between 0 and 1."""
    return {
        suite: min(1.0, mean_loss(tuned[suite]) / mean_loss(compressed[suite])) for suite in tuned
    }


def required_recovery(scheme: SchemeName, compression: Compression) -> float:
    """What the manifest asks for, else what suits the scheme's width.

    A job that was planned always has a bound: one that is the default of the scheme it asks for
    says nothing about the wider scheme that takes its place.
    """
    given = compression.gate.min_recovery
    if given is None or given == SCHEMES[compression.quantize.scheme].min_recovery:
        return SCHEMES[scheme].min_recovery
    return given


def shortfall(refused: Try) -> str:
    """Why a try was refused, in words."""
    suite = min(refused.recovery, key=lambda each: refused.recovery[each])
    return (
        f"{refused.scheme} keeps {refused.lowest:.4f} of the tuned model's {suite} loss, "
        f"less than the bound of {refused.min_recovery:g}"
    )

"""`spec.compression.gate`: how much of the tuned model's quality a quantized one keeps.

Where the job's gates are about fairness or robustness, a scheme has to keep those, too: rounding
moves biases.

Recovery of a suite is the tuned model's loss divided by the compressed one's, at most 1; the
smallest of the suites counts. A scheme that keeps too little gives way to the next wider one. Loss
is judged, not the score of a few answers: it sees every token, where a score jumps with one word.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from tunesmith_api.finetunejob.compression import DEFAULT_MIN_RECOVERY, Compression, SchemeName
from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.evaluate.suites import mean_loss


@dataclass(frozen=True, slots=True)
class SchemeTrial:
    """One scheme: what it kept, what it had to keep, and what it cost."""

    scheme: SchemeName
    recovery: dict[str, float]
    losses: dict[str, float]
    min_recovery: float
    seconds: float
    num_bytes: int
    # From the tuned model, in nats a token, where it was measured, and the most that the manifest
    # allows.
    kl: float | None = None
    max_kl: float | None = None
    # Decoder layers that stayed bf16.
    kept: tuple[str, ...] = ()
    # Gates of fairness and robustness that the compressed model breaks, in words.
    broken: tuple[str, ...] = ()

    @property
    def lowest(self) -> float:
        return min(self.recovery.values())

    @property
    def is_accepted(self) -> bool:
        return self.lowest >= self.min_recovery and self.is_near and not self.broken

    @property
    def is_near(self) -> bool:
        return self.max_kl is None or (self.kl is not None and self.kl <= self.max_kl)

    def as_json(self) -> JsonValue:
        return {
            "scheme": self.scheme,
            "recovery": dict(self.recovery),
            "losses": dict(self.losses),
            "minRecovery": self.min_recovery,
            "accepted": self.is_accepted,
            **({"kl": round(self.kl, 6)} if self.kl is not None else {}),
            **({"maxKl": self.max_kl} if self.max_kl is not None else {}),
            **({"keptLayers": list(self.kept)} if self.kept else {}),
            **({"broken": list(self.broken)} if self.broken else {}),
            "seconds": round(self.seconds, 3),
            "bytes": self.num_bytes,
        }


def recovery_of(
    tuned: Mapping[str, RowLosses], compressed: Mapping[str, RowLosses]
) -> dict[str, float]:
    """Recovery of each suite, between 0 and 1."""
    # At most 1: rounding sometimes lowers a loss by chance, which must not make up for another
    # suite's loss.
    return {
        suite: min(1.0, mean_loss(tuned[suite]) / mean_loss(compressed[suite])) for suite in tuned
    }


def required_recovery(scheme: SchemeName, compression: Compression) -> float:
    """What the manifest asks for, else what suits the scheme's width.

    Planning has filled in the default of the scheme that was asked for, which says nothing about a
    wider one that takes its place: that is held to the default of its own.
    """
    bound = compression.gate.min_recovery
    if bound is None or bound == DEFAULT_MIN_RECOVERY[compression.quantize.scheme]:
        return DEFAULT_MIN_RECOVERY[scheme]
    return bound


def shortfall(refused: SchemeTrial) -> str:
    """Why a scheme was refused, in words."""
    if not refused.is_near:
        return (
            f"{refused.scheme} is {refused.kl:.4f} nats a token from the tuned model, more than "
            f"the bound of {refused.max_kl:g} (spec.compression.gate.maxKl)"
        )
    if refused.lowest >= refused.min_recovery:
        return f"{refused.scheme}: {'; '.join(refused.broken)} (spec.evaluation.gates)"
    suite = min(refused.recovery, key=refused.recovery.__getitem__)
    return (
        f"{refused.scheme} keeps {refused.lowest:.4f} of the tuned model's {suite} loss, "
        f"less than the bound of {refused.min_recovery:g} (spec.compression.gate.minRecovery)"
    )

"""The proof that a model keeps packed rows apart: some rows of the job, packed and alone.

Models and kernels that do not train on, with a loss that looks healthy (TRL's issue 3910 tells of
one). The same rows have to give the same loss and the same gradient.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import Bins, LayOut, one_per_line
from tunesmith_trainer.train.parameter_groups import trainable_parameters
from tunesmith_trainer.train.sharding import whole, whole_outer_weights


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far the packed loss, and the packed gradient in its norm, may be off: parts of 1."""

    loss: float
    gradient: float


# bf16 keeps 8 bits: rounding alone moves the gradient of SmolLM2-135M by a few percent, and rows
# that see each other by far more (docs/log.md).
TOLERANCES: Final[Mapping[str, Tolerance]] = {
    "fp32": Tolerance(loss=1e-5, gradient=1e-4),
    "bf16": Tolerance(loss=1e-2, gradient=1e-1),
}


class PackingProof(BaseModel):
    """What the rows gave; differences are parts of the loss and of the norm of the gradient.

    They are None for a model that cannot be told where a row starts.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)

    attention: str
    rows: int
    tokens: int
    loss_difference: float | None = None
    gradient_difference: float | None = None
    holds: bool = False

    @property
    def in_words(self) -> str:
        """Why it does not hold."""
        if self.loss_difference is None or self.gradient_difference is None:
            return f"the {self.attention} takes no position_ids and cannot tell packed rows apart"
        return (
            f"the {self.attention} does not keep packed rows apart: over {self.rows} rows the loss "
            f"is off by {self.loss_difference:.2g} of itself, the gradient by "
            f"{self.gradient_difference:.2g}"
        )


@dataclass(frozen=True, slots=True)
class PackingTrial:
    """How the rows go through the model, as they do in a step."""

    model: Any
    rows: TokenRows
    precision: Literal["bf16", "fp32"]
    autocast: Callable[[], AbstractContextManager[object]]

    def run(self) -> PackingProof:
        """Forward and back on the rows in two lines, and one by one; the model is left as it was.

        Without dropout, which would be drawn apart.
        """
        causal = self.model
        if hasattr(causal, "get_base_model"):
            causal = causal.get_base_model()
        kind = causal.config._attn_implementation  # noqa: SLF001 - it has no other name
        untried = PackingProof(
            attention=f"attention {kind} of {causal.config.model_type}",
            rows=len(self.rows),
            tokens=int(self.rows.lengths.sum()),
        )
        if "position_ids" not in inspect.signature(causal.forward).parameters:
            return untried
        numbers = list(range(len(self.rows)))
        was_training = self.model.training
        self.model.eval()
        packed_loss, packed = self._pass_through([numbers], lay_out=_two_lines)
        alone_loss, alone = self._pass_through([[row] for row in numbers], lay_out=one_per_line)
        self.model.train(was_training)
        loss = abs(packed_loss - alone_loss) / abs(alone_loss)
        apart = (one - other for one, other in zip(packed, alone, strict=True))
        gradient = _norm(apart) / _norm(alone)
        allowed = TOLERANCES[self.precision]
        return untried.model_copy(
            update={
                "loss_difference": float(f"{loss:.2e}"),
                "gradient_difference": float(f"{gradient:.2e}"),
                "holds": loss <= allowed.loss and gradient <= allowed.gradient,
            }
        )

    def _pass_through(
        self, passes: list[list[int]], *, lay_out: LayOut
    ) -> tuple[float, list[torch.Tensor]]:
        """The mean loss of a target, and its gradient by parameter, which these have no more."""
        parameters = list(trainable_parameters(self.model).values())
        objective = CrossEntropy(self.rows, device=parameters[0].device, lay_out=lay_out)
        total = 0.0
        for rows in passes:
            with whole_outer_weights(self.model):
                with self.autocast():
                    loss = objective.summed_loss(self.model, rows) / self.rows.num_targets
                loss.backward()
            total += loss.item()
        gradients = []
        for parameter in parameters:
            gradient, parameter.grad = parameter.grad, None
            gradients.append(whole(torch.zeros_like(parameter) if gradient is None else gradient))
        return total, gradients


def _two_lines(lengths: Sequence[int]) -> Bins:
    places = list(range(len(lengths)))
    return [line for line in (places[0::2], places[1::2]) if line]


def _norm(tensors: Iterable[torch.Tensor]) -> float:
    return float(torch.stack([tensor.double().square().sum() for tensor in tensors]).sum().sqrt())

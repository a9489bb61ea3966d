"""What a teacher says of each target, minimised: all its logits, or a few cached tokens.

The teacher has the student's tokenizer. Where one of both has padded its table of embeddings wider,
the columns that both have are compared. Logits of either are made a chunk of positions at a time,
and let go of.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.chunked_loss import map_chunks, sum_over_chunks
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.packing import LayOut, one_per_line

FORWARD_KL: Final = "forwardKl"

# Of the student's logits (positions, vocabulary) and the places of these positions in the batch:
# the divergence from the teacher of each, shape (positions,), in nats.
OfTeacher = Callable[[torch.Tensor, slice], torch.Tensor]


class Knowledge(Protocol):
    """What is known of a teacher's answers."""

    def of_batch(self, rows: list[int], batch: MicroBatch) -> OfTeacher:
        """What it says of the targets of one micro batch, made of `rows`."""
        ...


class Distillation(CrossEntropy):
    """The divergence from a teacher, a part of the loss being cross-entropy with the answers."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        knowledge: Knowledge,
        cross_entropy_weight: float,
        device: torch.device,
        regularization: Regularization,
        lay_out: LayOut = one_per_line,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out, regularization=regularization)
        self._knowledge = knowledge
        self._weight = cross_entropy_weight

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, in nats: a scalar, fp32."""
        batch = self.collated(rows)
        of_teacher = self._knowledge.of_batch(rows, batch)
        hidden = self.training_states(model, batch)

        def loss_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            logits = hidden.computed_logits(states).float()
            loss = (1.0 - self._weight) * of_teacher(logits, part).sum()
            if self._weight:
                loss = loss + self._weight * self.smoothed_loss(logits, batch.targets[part])
            return loss

        return sum_over_chunks(hidden, loss_of)


class TeacherDivergence(CrossEntropy):
    """The divergence alone, as a measure."""

    def __init__(
        self,
        tokens: TokenRows,
        *,
        knowledge: Knowledge,
        device: torch.device,
        lay_out: LayOut = one_per_line,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out)
        self._knowledge = knowledge

    def row_losses(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Summed over the targets of each of `rows`, in nats: shape (rows,), fp64."""
        batch = self.collated(rows)
        of_teacher = self._knowledge.of_batch(rows, batch)
        hidden = predicting_states(model, batch)

        def divergences_of(states: torch.Tensor, part: slice) -> torch.Tensor:
            return of_teacher(hidden.logits(states), part)

        return batch.row_sums(map_chunks(hidden, divergences_of))


class TeacherLogits:
    """A teacher that answers beside the student, in a forward pass of its own for each batch."""

    def __init__(
        self, teacher: Any, *, objective: str = FORWARD_KL, temperature: float = 1.0
    ) -> None:
        self._teacher = teacher.eval()
        self._divergence = _DIVERGENCES[objective]
        self._temperature = temperature

    def of_batch(self, rows: list[int], batch: MicroBatch) -> OfTeacher:
        """What it says of the targets of one micro batch."""
        del rows
        with torch.no_grad():
            hidden = predicting_states(self._teacher, batch)

        def divergence(logits: torch.Tensor, part: slice) -> torch.Tensor:
            columns = logits.shape[-1]
            expected = teacher_logprobs(
                hidden, part, temperature=self._temperature, columns=columns
            )
            shared = logits[:, : expected.shape[-1]]
            reached = (shared / self._temperature).log_softmax(dim=-1)
            # As gradients shrink with the square of the temperature (Hinton et al. 2015).
            return self._divergence(expected, reached) * self._temperature**2

        return divergence


@dataclass(frozen=True, slots=True)
class CachedTokens:
    """Some tokens of each target and what they weigh, 1 in all: shape (targets, tokens) each."""

    tokens: torch.Tensor
    weights: torch.Tensor


class TeacherCache:
    """A few tokens that a teacher has chosen of each target: forward KL by these alone.

    The entropy of the teacher, which no student changes, is left out: values are cross-entropies.
    `of_row` gives those of a row.
    """

    def __init__(self, of_row: Callable[[int], CachedTokens], *, temperature: float) -> None:
        self._of_row = of_row
        self._temperature = temperature

    def of_batch(self, rows: list[int], batch: MicroBatch) -> OfTeacher:
        """What was chosen of the targets of one micro batch."""
        cached = [self._of_row(rows[place]) for place in batch.order]
        tokens, weights = (
            torch.cat(parts).to(batch.targets.device)
            for parts in zip(*((each.tokens, each.weights) for each in cached), strict=True)
        )

        def cross_entropy(logits: torch.Tensor, part: slice) -> torch.Tensor:
            reached = (logits / self._temperature).log_softmax(dim=-1)
            expected = (weights[part] * reached.gather(1, tokens[part])).sum(dim=1)
            return -expected * self._temperature**2

        return cross_entropy


def teacher_logprobs(
    hidden: HiddenStates, part: slice, *, temperature: float, columns: int | None = None
) -> torch.Tensor:
    """Log-probabilities of a part of the positions, (part, vocabulary), fp32, without gradients.

    Of the first `columns` of the vocabulary, if that is given.
    """
    with torch.no_grad():
        logits = hidden.logits(hidden.states[part])[:, :columns]
        return (logits / temperature).log_softmax(dim=-1)


def _forward_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return (teacher.exp() * (teacher - student)).sum(dim=-1)


def _reverse_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    return _forward_kl(student, teacher)


def _jensen_shannon(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    mixed = torch.logaddexp(teacher, student) - math.log(2.0)
    return 0.5 * (_forward_kl(teacher, mixed) + _forward_kl(student, mixed))


# Of log-probabilities, shape (positions, vocabulary) each; of each position, shape (positions,).
_DIVERGENCES: Final[Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]]] = {
    FORWARD_KL: _forward_kl,
    "reverseKl": _reverse_kl,
    "jensenShannon": _jensen_shannon,
}

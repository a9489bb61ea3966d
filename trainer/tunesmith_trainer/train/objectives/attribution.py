"""Right for the right reasons: what moves an answer's log-probability is held to highlighted words.

Ross et al. 2017 (arXiv 1703.03717) punish squared input gradients where people saw no reason; here
it is their share of all squares, between 0 and 1, which is comparable between models, rows and
lengths. Gradients go to the embeddings of the prompt's words, and are differentiated once more.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.memory import LOGITS_PER_CHUNK
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.hidden_states import HiddenStates
from tunesmith_trainer.train.dataloader import MicroBatch
from tunesmith_trainer.train.objectives.companions import spans_of_rows
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy, predicting_states
from tunesmith_trainer.train.objectives.known_gradients import Passes
from tunesmith_trainer.train.packing import LayOut

# What torch puts behind functions that can be differentiated once.
_NO_DERIVATIVE: Final = "torch::autograd::Error"
# Of a sum of squares that a model may drive to nothing.
_TINY: Final = 1e-20


@dataclass(frozen=True, slots=True)
class Marked:
    """Rows with highlights.

    Attributes:
        numbers: which rows of the job they are.
        tokens: the rows up to their last answer, which alone is a target.
        inside: of each, the places of tokens that are highlighted.
        outside: of each, the places of all other tokens that somebody has said in the prompt.
    """

    numbers: Sequence[int]
    tokens: TokenRows
    inside: Sequence[Sequence[int]]
    outside: Sequence[Sequence[int]]


class HeldToHighlights(CrossEntropy):
    """The plain loss, and `weight` times the mean share of gradients outside of highlights.

    NB: rows with highlights go through the model once more, by attention that can be differentiated
    twice: fused kernels cannot.
    """

    def __init__(
        self,
        tokens: TokenRows,
        *,
        marked: Marked,
        weight: float,
        device: torch.device,
        lay_out: LayOut,
        regularization: Regularization,
    ) -> None:
        super().__init__(tokens, device=device, lay_out=lay_out, regularization=regularization)
        self._marked = marked
        self._places = {number: place for place, number in enumerate(marked.numbers)}
        self._of_marked = CrossEntropy(marked.tokens, device=device, lay_out=lay_out)
        # NB: what the loop divides by are targets; this is a mean over rows, those of an epoch.
        self._is_proven = False
        self._scale = weight * tokens.num_targets / len(marked.numbers)

    def summed_loss(self, model: Any, rows: list[int]) -> torch.Tensor:
        """Sum over the targets of `rows`, and the weighted shares of those with highlights.

        Raises:
            BadInputError: the model cannot be differentiated twice.
        """
        places = [self._places[row] for row in rows if row in self._places]
        if not places:
            return super().summed_loss(model, rows)
        passes = Passes(model)
        with _twice(model):
            passes.add(self._scale * self.outside_shares(model, places).sum())
        # Behind it: its graph is gone before that of the rows is made.
        return super().summed_loss(model, rows) + passes.sum()

    def outside_shares(self, model: Any, places: list[int]) -> torch.Tensor:
        """Of the rows at these places of `marked`, to be differentiated: shape (rows,), fp32."""
        batch = self._of_marked.collated(places)
        with _watched(model) as watched:
            hidden = predicting_states(model, batch)
            likelihood = -_summed_nll(hidden, batch)
        with torch.autocast(self._device.type, enabled=False):
            (gradient,) = torch.autograd.grad(likelihood, watched, create_graph=True)
            if not self._is_proven:
                _refuse_lost_derivatives(gradient)
                self._is_proven = True
            squares = gradient.float().square().sum(dim=-1).flatten()
            return torch.stack(
                [
                    _share(squares, start, self._marked.inside[place], self._marked.outside[place])
                    for place, start in zip(places, self._starts(batch, places), strict=True)
                ]
            )

    def _starts(self, batch: MicroBatch, places: list[int]) -> list[int]:
        """Where each row begins in the flattened inputs."""
        first = [batch.positions[span.start].item() for span in spans_of_rows(batch)]
        # The first target is predicted one token before it.
        before = [int(self._marked.tokens.row(place)[1].argmax()) - 1 for place in places]
        return [int(at) - less for at, less in zip(first, before, strict=True)]


def _share(
    squares: torch.Tensor, start: int, inside: Sequence[int], outside: Sequence[int]
) -> torch.Tensor:
    on, off = (
        squares[torch.tensor(side, device=squares.device) + start].sum()
        for side in (inside, outside)
    )
    return off / (on + off).clamp_min(_TINY)


def _summed_nll(hidden: HiddenStates, batch: MicroBatch) -> torch.Tensor:
    """The loss of all targets, with a graph that can be differentiated twice, in chunks."""
    size = LOGITS_PER_CHUNK["processor" if hidden.states.device.type == "cpu" else "accelerator"]

    def loss_of(states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(hidden.logits(states), targets, reduction="sum")

    parts = zip(hidden.states.split(size), batch.targets.split(size), strict=True)
    losses: list[torch.Tensor] = [
        checkpoint(loss_of, states, targets, use_reentrant=False) for states, targets in parts
    ]
    return torch.stack(losses).sum()


@contextmanager
def _watched(model: Any) -> Iterator[list[torch.Tensor]]:
    """What is added to the input embeddings in the block: nothing, but with gradients."""
    added: list[torch.Tensor] = []

    def add(_embedding: torch.nn.Module, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        added.append(torch.zeros_like(output).requires_grad_())
        return output + added[-1]

    hook = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield added
    finally:
        hook.remove()


def _refuse_lost_derivatives(gradient: torch.Tensor) -> None:
    """Return if the graph of `gradient` goes through every layer.

    NB: torch raises where a layer has no second derivative, but only if all of the graph is gone
    through. Asked for the gradients of some weights, it passes over such a layer without a word.
    """
    found, seen = [gradient.grad_fn], set[Any]()
    while found:
        node = found.pop()
        if node is None or node in seen:
            continue
        if node.name() == _NO_DERIVATIVE:
            raise RuntimeError("a second derivative is not implemented")
        seen.add(node)
        found += [following for following, _ in node.next_functions]


@contextmanager
def _twice(model: Any) -> Iterator[None]:
    """Attention without fused kernels; also where checkpointed layers compute it again.

    Raises:
        BadInputError: another layer of the model has no second derivative.
    """
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    except RuntimeError as error:
        if "is not implemented" not in str(error):
            raise
        raise BadInputError(
            Reason.INVALID_SPEC,
            "training.explanation: given method: attribution, and a layer of a model of type "
            f"{model.config.model_type} cannot be differentiated twice; choose method: rationales, "
            "leave explanation out, or take another model",
        ) from error

"""What is added to a model's input embeddings to raise its loss: projected gradient ascent.

`objectives/adversarial.py` climbs. Each token has a ball of its own, as in continuous adversarial
training (Xhonneux et al. 2024, arXiv 2405.15589), so that a token's reach depends neither on the
length of its row nor on what shares the forward pass; its radius is a part of the mean length of
the model's embeddings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch

# Times radius / steps: an ascent can cross the ball and still settle (Madry et al. 2018,
# arXiv 1706.06083).
_REACH: Final = 2.5


class Perturbation:
    """Of the embeddings of one micro batch; at first a random one, or none (`is_random`)."""

    def __init__(self, model: Any, *, epsilon: float, steps: int, is_random: bool) -> None:
        self._embedding = model.get_input_embeddings()
        with torch.no_grad():
            lengths = self._embedding.weight.float().norm(dim=-1)
        self._radius = epsilon * lengths.mean()
        self._step = _REACH * self._radius / steps
        self._is_random = is_random
        self._added: torch.Tensor | None = None

    @property
    def added(self) -> torch.Tensor:
        """Shape (lines, columns, hidden size); a leaf that has gradients.

        Raises:
            RuntimeError: no forward pass has shown how many tokens there are.
        """
        if self._added is None:
            raise RuntimeError("added is asked for before a forward pass")
        return self._added

    @contextmanager
    def applied(self) -> Iterator[None]:
        """It is added in forward passes with gradients, until the block is left."""
        hook = self._embedding.register_forward_hook(self._moved)
        try:
            yield
        finally:
            hook.remove()

    def climb(self, gradient: torch.Tensor) -> None:
        """One step along `gradient`, of the length that every token's step has."""
        lengths = gradient.norm(dim=-1, keepdim=True)
        # Nothing depends on padding, and on what follows the last target.
        tiny = torch.finfo(gradient.dtype).tiny
        self._put(self.added.detach() + self._step * gradient / lengths.clamp_min(tiny))

    def _moved(
        self, _embedding: torch.nn.Module, _inputs: object, output: torch.Tensor
    ) -> torch.Tensor:
        # NB: not of the base model, which is asked without gradients and by the same module.
        if not torch.is_grad_enabled():
            return output
        if self._added is None:
            start = torch.zeros_like(output)
            self._put(start.uniform_(-1.0, 1.0) * self._radius if self._is_random else start)
        return output + self.added

    def _put(self, moved: torch.Tensor) -> None:
        lengths = moved.norm(dim=-1, keepdim=True)
        inside = moved * (self._radius / lengths.clamp_min(self._radius))
        self._added = inside.detach().requires_grad_()

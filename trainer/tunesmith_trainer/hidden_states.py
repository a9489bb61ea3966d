"""A forward pass without its logits, and logits of some positions at a time.

The logits of a whole batch are the largest tensor that there is: 8,192 positions of a vocabulary of
49 thousand are 1.6 GB in fp32. `evaluate` and the objectives of `train` take them in chunks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class HiddenStates:
    """What the blocks of a causal language model made of some positions of its inputs.

    `states` has shape (positions, hidden size), with its graph where gradients are on.
    """

    def __init__(
        self, model: Any, *, positions: torch.Tensor, input_ids: torch.Tensor, **inputs: Any
    ) -> None:
        # NB: around PEFT's own wrapper. Adapters are in the layers, and act without it.
        self._causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._output = _output_of_blocks(self._causal, input_ids=input_ids, **inputs)
        self._any_ids = input_ids[:1, :1]
        self.states: torch.Tensor = self._output.last_hidden_state.flatten(0, 1).index_select(
            0, positions
        )
        # Else the states of all positions live as long as those of the few.
        self._output.last_hidden_state = None

    @property
    def head(self) -> torch.nn.Module:
        """What turns states into logits, adapters of its own included."""
        return self._causal.get_output_embeddings()

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Logits of a part of `states`, shape (positions, vocabulary), in fp32."""
        # In fp32: autocast leaves bf16, and a sum over the vocabulary needs more digits.
        return self.computed_logits(states).float()

    def computed_logits(self, states: torch.Tensor) -> torch.Tensor:
        """As `logits`, in the type that the head computes in."""
        # NB: through the model's own forward pass, with the blocks' work in its place: what a model
        # does with its logits afterwards (soft caps, scaling) is in there, and not in the head.
        self._output.last_hidden_state = states[None]
        with _answering(self._causal.base_model, self._output):
            logits: torch.Tensor = self._causal(input_ids=self._any_ids, use_cache=False).logits
        self._output.last_hidden_state = None
        return logits[0]


def _output_of_blocks(causal: Any, **inputs: Any) -> Any:
    """What the blocks of `causal` answer; of its head no more than one position is asked."""
    seen: list[Any] = []
    hooks = [
        causal.base_model.register_forward_hook(lambda _m, _i, output: seen.append(output)),
        causal.get_output_embeddings().register_forward_pre_hook(
            lambda _m, states: (states[0][:1, :1],)
        ),
    ]
    try:
        # NB: of the whole model, not of its blocks: compressed-tensors decompresses quantized
        # weights in a hook on that, at its first forward pass.
        causal(**inputs, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0]


@contextmanager
def _answering(blocks: Any, output: Any) -> Iterator[None]:
    """`blocks` answer with `output`, whatever they are asked."""
    forward = blocks.forward
    blocks.forward = lambda *_, **__: output
    try:
        yield
    finally:
        blocks.forward = forward

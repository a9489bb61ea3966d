"""How much each layer, channel and head of a model does, on some of the job's own rows.

Layers by block influence, one minus the cosine between what goes in and what comes out (ShortGPT,
arXiv 2403.03853), or by the loss without them (Shortened LLaMA, arXiv 2402.02834). Channels and
heads by the size of what they add to the residual: their mean activation times the norm of the
columns that read them (in the manner of Wanda, arXiv 2306.11695, and Minitron, arXiv 2407.14679).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.distill.prunable import blocks_of
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.evaluate.suites import mean_loss

OnRow = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Importance:
    """Scores, higher where more is lost; each tensor has a row for each layer.

    `layers` has shape (layers,), `channels` (layers, channels), `kv_heads` (layers, heads of keys):
    a head of keys with the queries that share it.
    """

    layers: torch.Tensor
    channels: torch.Tensor
    kv_heads: torch.Tensor

    def with_layers(self, layers: torch.Tensor) -> "Importance":
        """With other scores of the layers."""
        return replace(self, layers=layers)


def measure_importance(model: Any, rows: TokenRows, *, on_row: OnRow) -> Importance:
    """One forward pass over each of `rows`; layers are judged by block influence."""
    meters = [_BlockMeter(block) for block in blocks_of(model)]
    hooks = [hook for meter in meters for hook in meter.hooks()]
    try:
        with torch.no_grad():
            for number in range(len(rows)):
                # Alone, so that no padding counts.
                ids = torch.from_numpy(rows.row(number)[0].astype("int64"))[None].to(model.device)
                model.base_model(input_ids=ids, use_cache=False)
                on_row(number + 1, len(rows))
    finally:
        for hook in hooks:
            hook.remove()
    kv_heads = model.config.num_key_value_heads
    return Importance(
        layers=torch.tensor([meter.influence() for meter in meters]),
        channels=torch.stack([meter.channels() for meter in meters]),
        kv_heads=torch.stack([meter.kv_heads(kv_heads) for meter in meters]),
    )


def losses_without(model: Any, rows: TokenRows, *, on_layer: OnRow) -> torch.Tensor:
    """The loss on `rows` without each layer, shape (layers,)."""
    blocks, losses = blocks_of(model), []
    for number, block in enumerate(blocks):
        with _skipped(block):
            losses.append(mean_loss(score_rows(model, rows, pad_id=0)))
        on_layer(number + 1, len(blocks))
    return torch.tensor(losses)


class _BlockMeter:
    """Sums over tokens of what a block does."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._tokens = 0
        self._turned = 0.0
        self._down = torch.zeros(block.mlp.down_proj.in_features, dtype=torch.float64)
        self._out = torch.zeros(block.self_attn.o_proj.in_features, dtype=torch.float64)

    def hooks(self) -> Iterator[Any]:
        """Those that sum, to be removed."""
        yield self._block.register_forward_hook(self._passed, with_kwargs=True)
        yield self._block.mlp.down_proj.register_forward_pre_hook(
            lambda _module, inputs: self._added(self._down, inputs[0])
        )
        yield self._block.self_attn.o_proj.register_forward_pre_hook(
            lambda _module, inputs: self._added(self._out, inputs[0])
        )

    def influence(self) -> float:
        """One minus the mean cosine of a token before and behind the block."""
        return self._turned / self._tokens

    def channels(self) -> torch.Tensor:
        """The mean size of what each channel adds."""
        return self._down / self._tokens * _column_norms(self._block.mlp.down_proj)

    def kv_heads(self, number: int) -> torch.Tensor:
        """The same of all queries that share a head of keys."""
        columns = self._out / self._tokens * _column_norms(self._block.self_attn.o_proj)
        return columns.view(number, -1).sum(dim=1)

    def _passed(self, _block: Any, args: Any, kwargs: Any, output: Any) -> None:
        before = args[0] if args else kwargs["hidden_states"]
        after = output[0] if isinstance(output, tuple) else output
        cosine = torch.nn.functional.cosine_similarity(before.float(), after.float(), dim=-1)
        self._turned += float((1.0 - cosine).double().sum())
        self._tokens += cosine.numel()

    def _added(self, sums: torch.Tensor, inputs: torch.Tensor) -> None:
        sums += inputs.detach().abs().flatten(0, -2).sum(dim=0).double().cpu()


def _column_norms(linear: Any) -> torch.Tensor:
    norms: torch.Tensor = linear.weight.detach().double().norm(dim=0).cpu()
    return norms


@contextmanager
def _skipped(block: Any) -> Iterator[None]:
    """The block hands on what it is given."""
    forward = block.forward
    block.forward = lambda hidden_states, *_, **__: hidden_states
    try:
        yield
    finally:
        block.forward = forward

"""Attention of one row by layer and head, its rollout, and the importance of heads.

Attention says where a layer reads from, not what the answer depends on: it is no explanation of a
cause (Jain & Wallace 2019), and its maps say so. The model computes it `eager`, for its fast
kernels give none.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from tunesmith_trainer.explain.units import RowText, Unit

Values = NDArray[np.float64]

# What the modules are called that join the heads again, in the architectures that are known.
_JOINING: Final = frozenset({"o_proj", "out_proj", "c_proj", "dense", "wo"})
# Groups of tokens on an axis.
_ANSWER_GROUPS: Final = 12


@dataclass(frozen=True, slots=True)
class AttentionMaps:
    """`maps` has shape (layers, heads, groups, groups): from the group that reads to what it reads.

    A group is a unit, a stretch of the template or a part of the answer. `rollout` is what the
    answer reads of each unit through all layers (Abnar & Zuidema 2020); `importance` of shape
    (layers, heads) is how much the likelihood would change with each head's gate (Michel et al.
    2019), None where the architecture does not show where its heads are joined.
    """

    groups: tuple[str, ...]
    maps: Values
    rollout: Values
    importance: Values | None

    def without_words(self) -> "AttentionMaps":
        """With numbers in place of what groups say."""
        numbers = tuple(f"group {number}" for number in range(1, len(self.groups) + 1))
        return replace(self, groups=numbers)


def attention_of(model: PreTrainedModel, row: RowText, units: Sequence[Unit]) -> AttentionMaps:
    """Read the row once, and once more with gradients for the heads."""
    ids = torch.tensor([row.ids], device=model.device)
    with _eager(model), torch.inference_mode():
        layers = model(input_ids=ids, use_cache=False, output_attentions=True).attentions
    # Layers, heads, the token that reads, and the one that is read.
    attention = torch.cat(layers).double().cpu().numpy()
    names, groups = _groups(row, units)
    reading = np.stack([attention[:, :, group].mean(axis=2) for group in groups], axis=2)
    maps = np.stack([reading[..., group].sum(axis=-1) for group in groups], axis=3)
    # The logits at a position are those of the next token.
    predicting = slice(row.num_prompt - 1, len(row.ids) - 1)
    through = _rolled_out(attention.mean(axis=1))[predicting].mean(axis=0)
    return AttentionMaps(
        groups=names,
        maps=maps,
        rollout=np.array([through[list(unit.tokens)].sum() for unit in units]),
        importance=_head_importance(model, row, ids, heads=attention.shape[1]),
    )


def _rolled_out(layers: Values) -> Values:
    """What each token is made of, if the residual stream counts as much as attention."""
    num = layers.shape[1]
    through = np.eye(num)
    for layer in layers:
        through = (0.5 * layer + 0.5 * np.eye(num)) @ through
    return through


def _groups(row: RowText, units: Sequence[Unit]) -> tuple[tuple[str, ...], list[list[int]]]:
    owners = {token: number for number, unit in enumerate(units) for token in unit.tokens}
    names: list[str] = []
    groups: list[list[int]] = []
    last: int | None = None
    for at in range(row.num_prompt):
        owner = owners.get(at, -1)
        if owner != last:
            names.append("template" if owner < 0 else units[owner].text)
            groups.append([])
        groups[-1].append(at)
        last = owner
    answer = range(row.num_prompt, len(row.ids))
    for part in np.array_split(answer, min(len(answer), _ANSWER_GROUPS)):
        start, end = row.places[part[0]][0], row.places[part[-1]][1]
        names.append(row.text[start:end].strip())
        groups.append(part.tolist())
    return tuple(names), groups


def _head_importance(
    model: PreTrainedModel, row: RowText, ids: torch.Tensor, *, heads: int
) -> Values | None:
    joining = [
        module
        for name, module in model.named_modules()
        if name.rsplit(".", 1)[-1] in _JOINING and "attn" in name.lower()
    ]
    if not joining:
        return None
    gates = torch.ones(len(joining), heads, device=model.device, requires_grad=True)
    hooks = [
        module.register_forward_pre_hook(_gate(gates[number]))
        for number, module in enumerate(joining)
    ]
    try:
        labels = ids[0, row.num_prompt :]
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(labels) + 1).logits
        logprobs = logits[0, :-1].float().log_softmax(dim=-1).gather(-1, labels[:, None])
        (gradient,) = torch.autograd.grad(logprobs.mean(), gates)
    finally:
        for hook in hooks:
            hook.remove()
    found: Values = gradient.abs().double().cpu().numpy()
    return found


def _gate(gates: torch.Tensor) -> Any:
    def multiply(_module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> Any:
        joined, *others = inputs
        split = joined.unflatten(-1, (len(gates), -1)) * gates[:, None]
        return (split.flatten(-2), *others)

    return multiply


@contextmanager
def _eager(model: PreTrainedModel) -> Iterator[None]:
    before = model.config._attn_implementation  # noqa: SLF001 - it has no getter
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)

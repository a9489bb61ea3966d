"""How much of each axis `spec.compression.prune` leaves: pure arithmetic over shapes.

Memory and disk are estimated by it, `prepare` refuses by it what cannot be cut, and `distill` cuts
by it. Which layers, channels and heads go is the trainer's to judge.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from tunesmith_api.finetunejob.compression import Compression
from tunesmith_api.finetunejob.prune import Prune
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.sources.model_facts import ModelFacts

# Cuts that are tried for `maxParameters`, at equal distances between nothing and all.
_CUTS: Final = 1000


class UnfitCutError(ValueError):
    """The model cannot be cut so; `str()` names the field, what was given and what would do."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Layers, channels of each feed-forward network, and heads of keys and values of each layer."""

    layers: int
    channels: int
    kv_heads: int


NumParameters = Callable[[Shape], int]


def channel_multiple(compression: Compression) -> int:
    """What the channels that are left have to be a multiple of."""
    groups = compression.quantize.group_size or 1
    return max(groups, compression.prune.multiple_of if compression.prune else 1)


def pruned_shape(compression: Compression, whole: Shape, *, num_parameters: NumParameters) -> Shape:
    """What is left of `whole`; the planner has filled in the defaults.

    Raises:
        UnfitCutError: nothing would go, or nothing would be left, or no cut is small enough.
    """
    prune, multiple = compression.prune, channel_multiple(compression)
    if prune is None or not prune.is_of_shape:
        return whole
    _refuse_narrow(prune, whole, multiple=multiple)
    if prune.ratio is not None:
        _refuse_idle(prune, prune.ratio, whole)
        return _cut(prune, whole, ratio=prune.ratio, multiple=multiple)
    return _below(prune, whole, multiple=multiple, num_parameters=num_parameters)


def pruned_facts(spec: FineTuneJobSpec, facts: ModelFacts) -> ModelFacts:
    """About what is left of a model; of one that cannot be cut so, all of it."""
    whole = Shape(facts.num_layers, facts.intermediate_size, facts.num_kv_heads)

    def count(shape: Shape) -> int:
        return _num_parameters(facts, whole=whole, shape=shape)

    try:
        left = pruned_shape(spec.compression, whole, num_parameters=count)
    except UnfitCutError:
        return facts
    return replace(
        facts,
        num_parameters=count(left),
        num_layers=left.layers,
        intermediate_size=left.channels,
        num_kv_heads=left.kv_heads,
        num_heads=facts.num_heads * left.kv_heads // facts.num_kv_heads,
    )


def _below(prune: Prune, whole: Shape, *, multiple: int, num_parameters: NumParameters) -> Shape:
    """The first of ever larger cuts that leaves no more parameters than are asked for."""
    most, before = prune.max_parameters or 0, num_parameters(whole)
    if before <= most:
        raise UnfitCutError(
            f"compression.prune.maxParameters: the model has {before:,} parameters, no more than "
            f"{most:,} as it is; lower it, or leave prune out"
        )
    left = whole
    for part in range(1, _CUTS):
        left = _cut(prune, whole, ratio=part / _CUTS, multiple=multiple)
        if num_parameters(left) <= most:
            return left
    raise UnfitCutError(
        f"compression.prune.maxParameters: {most:,} of {before:,} parameters cannot be reached by "
        f"{', '.join(prune.axes)}, which leave {num_parameters(left):,} at least; raise it, or "
        "name more axes"
    )


def _cut(prune: Prune, whole: Shape, *, ratio: float, multiple: int) -> Shape:
    """`whole` with about `ratio` of each axis gone, and something of each left."""
    kept = 1.0 - ratio
    left = whole
    if "layers" in prune.axes:
        left = replace(left, layers=max(1, round(kept * whole.layers)))
    if "channels" in prune.axes:
        channels = int(kept * whole.channels) // multiple * multiple
        left = replace(left, channels=max(multiple, channels))
    if "heads" in prune.axes:
        left = replace(left, kv_heads=max(1, round(kept * whole.kv_heads)))
    return left


def _refuse_narrow(prune: Prune, whole: Shape, *, multiple: int) -> None:
    """Return if the feed-forward networks have channels to leave."""
    if "channels" in prune.axes and whole.channels <= multiple:
        raise UnfitCutError(
            f"compression.prune.axes: of {whole.channels} channels no smaller multiple of "
            f"{multiple} is left, and no kernel takes less; leave channels out"
        )


def _refuse_idle(prune: Prune, ratio: float, whole: Shape) -> None:
    """Return if of every axis something goes and something stays."""
    counts = {"layers": whole.layers, "heads": whole.kv_heads}
    for axis, count in counts.items():
        if axis not in prune.axes:
            continue
        left = round((1.0 - ratio) * count)
        if left == count:
            raise UnfitCutError(
                f"compression.prune.ratio: {ratio:g} of {count} {axis} takes none; raise it to "
                f"{0.5 / count + 0.01:.2g} or more, or leave {axis} out of axes"
            )
        if left < 1:
            raise UnfitCutError(
                f"compression.prune.ratio: {ratio:g} of {count} {axis} leaves none; lower it to "
                f"{1.0 - 1.0 / count:.2g} or less, or leave {axis} out of axes"
            )


def _num_parameters(facts: ModelFacts, *, whole: Shape, shape: Shape) -> int:
    """Of a gated block with grouped queries, as far as the facts tell."""
    embeddings = (1 if facts.is_tied else 2) * facts.vocab_size * facts.hidden_size
    block = (facts.num_parameters - embeddings) // whole.layers
    channel = 3 * facts.hidden_size
    queries = facts.num_heads // facts.num_kv_heads
    head = 2 * (queries + 1) * facts.hidden_size * (facts.hidden_size // facts.num_heads)
    block -= (whole.channels - shape.channels) * channel
    block -= (whole.kv_heads - shape.kv_heads) * head
    return embeddings + shape.layers * max(0, block)

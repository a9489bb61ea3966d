"""Which models can be pruned along which axes, and what a layer, a channel or a head of them holds.

The architectures are those whose blocks are alike, with a gated feed-forward network and separate
projections of queries, keys and values. Heads can go where both transformers and vLLM take the size
of a head from the configuration, and do not divide the hidden size by the number of heads.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_api.finetunejob.compression import Compression
from tunesmith_api.finetunejob.prune import Axis
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.pruned_shape import Shape, UnfitCutError, pruned_shape

_ALL: Final[frozenset[Axis]] = frozenset({"layers", "channels", "heads", "vocabulary"})
PRUNABLE: Final[Mapping[str, frozenset[Axis]]] = {
    "Gemma2ForCausalLM": _ALL,
    "Gemma3ForCausalLM": _ALL,
    "LlamaForCausalLM": _ALL,
    "MistralForCausalLM": _ALL,
    # vLLM's own code divides.
    "Qwen2ForCausalLM": _ALL - {"heads"},
    "Qwen3ForCausalLM": _ALL,
    # vLLM computes it by transformers' code, which divides.
    "SmolLM3ForCausalLM": _ALL - {"heads"},
}
# Columns of a matrix that vLLM's kernels for processors take (docs/reference/architectures.md).
_LEAST_MULTIPLE: Final = 32


def blocks_of(model: Any) -> Any:
    """The layers of a causal language model, in order."""
    return model.base_model.layers


def shape_of(model: Any) -> Shape:
    """The shape of a model by its configuration."""
    config = model.config
    return Shape(config.num_hidden_layers, config.intermediate_size, config.num_key_value_heads)


def head_size_of(model: Any) -> int:
    """Columns of a head."""
    columns = blocks_of(model)[0].self_attn.k_proj.out_features
    return int(columns) // int(model.config.num_key_value_heads)


def planned_shape(compression: Compression, model: Any) -> Shape:
    """What is to be left of `model`, which may be without weights.

    Raises:
        BadInputError: its architecture is not known, or it cannot be cut so.
    """
    _refuse_unknown(compression, model)
    try:
        shape = pruned_shape(
            compression, shape_of(model), num_parameters=ParameterCount.of(model).of_shape
        )
    except UnfitCutError as error:
        raise BadInputError(Reason.INVALID_SPEC, str(error)) from error
    _refuse_unfit_heads(model, shape)
    return shape


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Parameters of a whole model, and of each part that may go."""

    whole: Shape
    total: int
    layer: int
    channel: int
    kv_head: int

    @classmethod
    def of(cls, model: Any) -> "ParameterCount":
        """Counted on its first layer: all are alike."""
        block, whole = blocks_of(model)[0], shape_of(model)
        return cls(
            whole=whole,
            total=sum(parameter.numel() for parameter in model.parameters()),
            layer=sum(parameter.numel() for parameter in block.parameters()),
            channel=sum(_rows(block.mlp, "gate_proj", "up_proj")) // whole.channels
            + block.mlp.down_proj.out_features,
            kv_head=(
                sum(_rows(block.self_attn, "q_proj", "k_proj", "v_proj"))
                + block.self_attn.o_proj.weight.numel()
            )
            // whole.kv_heads,
        )

    def of_shape(self, shape: Shape) -> int:
        """Of the model that is left."""
        layer = (
            self.layer
            - (self.whole.channels - shape.channels) * self.channel
            - (self.whole.kv_heads - shape.kv_heads) * self.kv_head
        )
        return self.total - self.whole.layers * self.layer + shape.layers * layer


def _rows(module: Any, *names: str) -> Iterator[int]:
    """Numbers of weight and bias of each projection, whose rows go."""
    for name in names:
        yield sum(parameter.numel() for parameter in getattr(module, name).parameters())


def _refuse_unknown(compression: Compression, model: Any) -> None:
    prune, name = compression.prune, type(model).__name__
    axes = PRUNABLE.get(name)
    if axes is None:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"compression.prune: {name} is no architecture that can be pruned here; those are "
            f"{', '.join(sorted(PRUNABLE))}; leave prune out, or choose another model",
        )
    refused = [axis for axis in (prune.axes if prune else ()) if axis not in axes]
    if refused:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"compression.prune.axes: of {name} no {', '.join(refused)} can go, for vLLM takes the "
            f"size of its heads from their number; choose among {', '.join(sorted(axes))}",
        )


def _refuse_unfit_heads(model: Any, shape: Shape) -> None:
    """Return if the columns of all heads that are left make a matrix that kernels take."""
    whole = shape_of(model)
    if shape.kv_heads == whole.kv_heads:
        return
    queries = model.config.num_attention_heads // whole.kv_heads
    columns = shape.kv_heads * queries * head_size_of(model)
    if columns % _LEAST_MULTIPLE:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"compression.prune: {shape.kv_heads} of {whole.kv_heads} heads of keys leave "
            f"{columns} columns, no multiple of {_LEAST_MULTIPLE}, which kernels want; change "
            "ratio or maxParameters, or leave heads out of axes",
        )

"""The quantization schemes: what each needs, and which is the next wider one.

How much a scheme may lose is a default of the spec: `tunesmith_api.finetunejob.compression`. This
module imports no heavy library until it is asked for a recipe: `prepare` refuses by its rules, too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tunesmith_api.finetunejob.compression import (
    DEFAULT_ALGORITHM,
    Algorithm,
    Compression,
    Quantize,
    SchemeName,
)
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# Largest first: fewer scales are smaller and quicker. A hidden size of 576 takes no more than 64.
GROUP_SIZES = (128, 64, 32)
# The head's errors go straight into the probabilities; a tied one is the embedding as well.
IGNORED = ["lm_head"]

# Their norms feed these matrices and nothing else, so scaling one and the others cancels out. In
# other architectures SmoothQuant may change the model itself, so it stays away from them.
SMOOTHED_ARCHITECTURES = frozenset(
    {
        "GraniteForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "SmolLM3ForCausalLM",
    }
)
# Steps of signed gradients for each layer: the paper's number.
AUTO_ROUND_STEPS = 200
# Between 0 (all of the difficulty stays in the activations) and 1 (all of it goes to the weights).
SMOOTHING_STRENGTH = 0.8
_SMOOTHED = [
    [["re:.*q_proj", "re:.*k_proj", "re:.*v_proj"], "re:.*input_layernorm"],
    [["re:.*gate_proj", "re:.*up_proj"], "re:.*post_attention_layernorm"],
]


Pipeline = Literal["datafree", "basic", "sequential"]


@dataclass(frozen=True, slots=True)
class Scheme:
    """A way to store the weights; `wider` loses less and takes more space.

    `pipeline` is how llm-compressor calibrates: not at all, all layers in one pass, or layer by
    layer, each with the inputs that the quantized layers before it give.
    """

    name: SchemeName
    wider: SchemeName | None
    pipeline: Pipeline = "datafree"
    needs_gpu: bool = False


SCHEMES: dict[SchemeName, Scheme] = {
    "none": Scheme("none", wider=None),
    "W8A8": Scheme("W8A8", wider="none", pipeline="basic"),
    # vLLM's kernel for weights alone takes 4 bits on processors.
    "W8A16": Scheme("W8A16", wider="none", needs_gpu=True),
    "W4A16": Scheme("W4A16", wider="W8A8", pipeline="sequential"),
    "FP8": Scheme("FP8", wider="none", needs_gpu=True),
}


def refuse_unrunnable(compression: Compression, *, has_gpu: bool) -> None:
    """Return if this machine can run what the schemes make.

    Raises:
        BadInputError: FP8 without a GPU: neither the recovery nor the server could be tried.
    """
    unfit = next((name for name in compression.schemes if SCHEMES[name].needs_gpu), None)
    if unfit is not None and not has_gpu:
        field = "quantize.scheme" if unfit == compression.quantize.scheme else "ladder.schemes"
        raise BadInputError(
            Reason.RESOURCES_UNAVAILABLE,
            f"spec.compression.{field}: {unfit} runs on GPUs only, and there "
            "is none here; choose W8A8, which is 8 bit as well, or ask for GPUs with "
            "spec.resources.gpusPerWorker",
        )


def pipeline_of(scheme: SchemeName, algorithm: Algorithm) -> Pipeline:
    """How llm-compressor calibrates for it."""
    return "datafree" if (scheme, algorithm) == ("W4A16", "rtn") else SCHEMES[scheme].pipeline


def refuse_unscalable(quantize: Quantize, *, architecture: str) -> None:
    """Return if the algorithm knows which weights can be scaled without changing the model.

    Raises:
        BadInputError: AWQ for an architecture whose norms are not known to feed nothing else.
    """
    if quantize.algorithm == "awq" and architecture not in SMOOTHED_ARCHITECTURES:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.compression.quantize.algorithm: awq scales channels of {architecture}, of which "
            "it is not known whether that changes the model; choose gptq or autoRound",
        )


def quantized_widths(model: "PreTrainedModel") -> list[int]:
    """The columns of every matrix that is quantized."""
    import torch

    # By identity: the head that a model declares, whatever its name.
    head = model.get_output_embeddings()
    return [
        module.in_features
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    ]


def group_size_for(quantize: Quantize, *, in_features: Iterable[int]) -> int:
    """Columns that share a scale: what was asked for, else the largest that divides every layer.

    Raises:
        BadInputError: some layer's columns cannot be split so.
    """
    widths = sorted(set(in_features))
    wanted = [quantize.group_size] if quantize.group_size else GROUP_SIZES
    for size in wanted:
        if all(width % size == 0 for width in widths):
            return size
    tried = " or ".join(str(size) for size in wanted)
    raise BadInputError(
        Reason.INVALID_SPEC,
        f"spec.compression.quantize.groupSize: W4A16 needs layers whose columns groups of {tried} "
        f"divide, but this model has layers of {', '.join(map(str, widths))} columns; choose "
        "another groupSize, or the scheme W8A8",
    )


def recipe(
    name: SchemeName,
    *,
    architecture: str,
    group_size: int | None,
    algorithm: Algorithm = DEFAULT_ALGORITHM,
    kept: Sequence[str] = (),
) -> list[Any]:
    """The modifiers that llm-compressor applies, in order; the modules `kept` stay as they are.

    W8A8: SmoothQuant (Xiao et al. 2022, arXiv 2211.10438) where it is known to change nothing but
    the rounding, then int8 weights with a scale per row, and int8 activations with a scale per
    token that is found while the model runs. W8A16: int8 weights with a scale per row. W4A16: one
    of the algorithms. FP8: weights with a scale per row, activations with a scale per token.
    """
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    ignore = [*IGNORED, *kept]
    if name == "W4A16":
        return _four_bit(algorithm, group_size=group_size, ignore=ignore)
    preset = "FP8_DYNAMIC" if name == "FP8" else name
    rounding = QuantizationModifier(targets="Linear", scheme=preset, ignore=ignore)
    if name != "W8A8" or architecture not in SMOOTHED_ARCHITECTURES:
        return [rounding]
    return [
        SmoothQuantModifier(smoothing_strength=SMOOTHING_STRENGTH, mappings=_SMOOTHED),
        rounding,
    ]


def _four_bit(algorithm: Algorithm, *, group_size: int | None, ignore: list[str]) -> list[Any]:
    """GPTQ: arXiv 2210.17323. AWQ: arXiv 2306.00978. AutoRound: arXiv 2309.05516."""
    from llmcompressor.modifiers.autoround import AutoRoundModifier
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    # Spelt out: the preset of that name has groups of 128 whatever the layers.
    weights = {
        "num_bits": 4,
        "type": "int",
        "symmetric": True,
        "strategy": "group",
        "group_size": group_size,
    }
    groups = {"group_0": {"targets": ["Linear"], "weights": weights}}
    if algorithm == "gptq":
        return [GPTQModifier(config_groups=groups, ignore=ignore)]
    if algorithm == "autoRound":
        # Compiling takes longer than it saves on the few layers of a small model.
        return [
            AutoRoundModifier(
                config_groups=groups, ignore=ignore, iters=AUTO_ROUND_STEPS, batch_size=1,
                enable_torch_compile=False,
            )
        ]  # fmt: skip
    rounding = QuantizationModifier(config_groups=groups, ignore=ignore)
    return [rounding] if algorithm == "rtn" else [AWQModifier(), rounding]

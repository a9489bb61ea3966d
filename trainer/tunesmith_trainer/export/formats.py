"""What each format can hold, asked before anything is paid for: `prepare` asks, `export` again."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_api.finetunejob.export import Export, FormatName, Precision
from tunesmith_api.quantities import num_bytes
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.export.gguf_tokenizer import refuse_unknown_tokenizer
from tunesmith_trainer.export.gguf_writer import refuse_unknown_architecture

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# Of onnxruntime-genai 0.18's builder, those that read text alone.
ONNX_ARCHITECTURES: Final = frozenset(
    {
        "Ernie4_5ForCausalLM",
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "GemmaForCausalLM",
        "GraniteForCausalLM",
        "HunYuanDenseV1ForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "NemotronForCausalLM",
        "OlmoForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "SmolLM3ForCausalLM",
    }
)
# Of those that litert-torch 0.10 can read, these have been held against transformers.
LITERT_ARCHITECTURES: Final = frozenset(
    {
        "Gemma2ForCausalLM",
        "Gemma3ForCausalLM",
        "LlamaForCausalLM",
        "MistralForCausalLM",
        "Phi3ForCausalLM",
        "PhiForCausalLM",
        "Qwen2ForCausalLM",
        "Qwen3ForCausalLM",
        "SmolLM3ForCausalLM",
    }
)
# Those too: of others, litert-torch refuses what changes with the length of a text.
LITERT_ROPES: Final = frozenset({"default", "linear", "llama3", "yarn"})
# Of a parameter at least, scales left out: what is larger so is larger in any case.
_LEAST_BYTES: Final[Mapping[Precision, float]] = {
    "fp32": 4.0,
    "fp16": 2.0,
    "F16": 2.0,
    "Q8_0": 1.0,
    "int8": 1.0,
    "int4": 0.5,
    "Q4_0": 0.5,
}

_WRITERS: Final[tuple[tuple[FormatName, str, frozenset[str]], ...]] = (
    ("onnx", "onnxruntime-genai's builder", ONNX_ARCHITECTURES),
    ("litert", "the writer of LiteRT", LITERT_ARCHITECTURES),
)


def refuse_unwritable(
    export: Export, folder: Path, *, config: "PretrainedConfig", num_parameters: int
) -> None:
    """Return if each format can hold the model in `folder`, in the size that is allowed.

    Raises:
        BadInputError: one cannot; the message names it.
    """
    wanted = {each.format for each in export.formats}
    if "gguf" in wanted:
        refuse_unknown_architecture(config)
        refuse_unknown_tokenizer(folder)
    architecture = (config.architectures or ["?"])[0]
    for name, writer, known in _WRITERS:
        if name in wanted and architecture not in known:
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"spec.export.formats: {writer} does not know {architecture}; it knows "
                f"{', '.join(sorted(known))}; leave {name} out",
            )
    if "litert" in wanted:
        _refuse_unknown_to_litert(export, config)
    _refuse_too_large(export, num_parameters=num_parameters)


def _refuse_unknown_to_litert(export: Export, config: "PretrainedConfig") -> None:
    unknown = _ropes_of(config) - LITERT_ROPES
    if unknown:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.export.formats: the writer of LiteRT does not know ropes of type "
            f"{', '.join(sorted(unknown))}; it knows {', '.join(sorted(LITERT_ROPES))}; leave "
            "litert out",
        )
    longest = config.max_position_embeddings
    if export.context_length is not None and export.context_length > longest:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.export.contextLength: {export.context_length} is more than the {longest} "
            "tokens of the model's context; choose that or less",
        )


def _ropes_of(config: "PretrainedConfig") -> set[str]:
    told = getattr(config, "rope_parameters", None) or {}
    # Some have one for each kind of layer.
    of_layers = [each for each in told.values() if isinstance(each, Mapping)]
    return {each.get("rope_type", "default") for each in of_layers or [told]}


def _refuse_too_large(export: Export, *, num_parameters: int) -> None:
    if export.max_size is None:
        return
    for place, wanted in enumerate(export.formats):
        least = int(_LEAST_BYTES[wanted.precision] * num_parameters)
        if least > num_bytes(export.max_size):
            raise BadInputError(
                Reason.INVALID_SPEC,
                f"spec.export.formats[{place}]: {num_parameters:,} parameters in "
                f"{wanted.precision} take {least:,} bytes or more, above export.maxSize: "
                f"{export.max_size}; choose a narrower precision or a smaller model, or raise it",
            )

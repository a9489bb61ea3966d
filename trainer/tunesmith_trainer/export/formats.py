"""What each format can hold, asked before anything is paid for: `prepare` asks, `export` again."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tunesmith_api.finetunejob.export import Export, Precision
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
# Of a parameter at least, scales left out: what is larger so is larger in any case.
_LEAST_BYTES: Final[Mapping[Precision, float]] = {
    "fp32": 4.0,
    "fp16": 2.0,
    "F16": 2.0,
    "Q8_0": 1.0,
    "int4": 0.5,
    "Q4_0": 0.5,
}


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
    if "onnx" in wanted and architecture not in ONNX_ARCHITECTURES:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.export.formats: onnxruntime-genai's builder does not know {architecture}; it "
            f"knows {', '.join(sorted(ONNX_ARCHITECTURES))}; leave onnx out",
        )
    _refuse_too_large(export, num_parameters=num_parameters)


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

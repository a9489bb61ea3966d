"""`spec.export`: the tuned model in formats that run on devices, without a server."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import Bytes
from tunesmith_api.finetunejob.serving import DEFAULT_MAX_MODEL_LENGTH
from tunesmith_api.rules import Rule

FormatName = Literal["onnx", "gguf", "litert"]
Precision = Literal["fp32", "fp16", "int8", "int4", "F16", "Q8_0", "Q4_0"]

# What each format's writer makes, by the names that its own community has for them.
PRECISIONS: Final[Mapping[FormatName, tuple[Precision, ...]]] = {
    "onnx": ("fp32", "fp16", "int4"),
    "gguf": ("F16", "Q8_0", "Q4_0"),
    "litert": ("fp32", "int8"),
}
# Every one once.
MAX_FORMATS: Final = sum(map(len, PRECISIONS.values()))
# Nats per target token. Half precision rounds nothing that shows; four bits show in a small model,
# and so does int8, which rounds activations as well.
DEFAULT_MAX_LOSS_RISE: Final[Mapping[Precision, float]] = {
    "fp32": 0.001,
    "fp16": 0.01,
    "F16": 0.01,
    "Q8_0": 0.02,
    "int8": 0.2,
    "int4": 0.2,
    "Q4_0": 0.2,
}


class ExportFormat(ApiModel):
    """One form of the model, as a folder of its own in the version."""

    format: FormatName = Field(
        description="onnx: a folder for onnxruntime-genai. gguf: a file for llama.cpp. litert: a "
        "file for LiteRT-LM (TensorFlow Lite)."
    )
    precision: Precision = Field(
        description="Of onnx fp32, fp16 or int4, of gguf F16, Q8_0 or Q4_0, of litert fp32 or int8."
    )

    @property
    def name(self) -> str:
        """What its artifact and folder are called."""
        return f"{self.format}-{self.precision}"


class ExportGate(ApiModel):
    """How much of the tuned model's quality each format must keep."""

    max_loss_rise: Annotated[
        Annotated[float, Field(ge=0.0, le=10.0)] | None,
        DecidedLater(
            "by precision: 0.001 of fp32, 0.01 of 16 bit, 0.02 of Q8_0, 0.2 of int8 and 4 bit"
        ),
    ] = Field(
        None,
        description="Most nats per target token that the held-out loss may rise. Default: 0.001 of "
        "fp32, 0.01 of 16 bit, 0.02 of Q8_0, 0.2 of int8 and 4 bit.",
    )

    def bound_of(self, precision: Precision) -> float:
        """The bound for a format of that precision."""
        if self.max_loss_rise is not None:
            return self.max_loss_rise
        return DEFAULT_MAX_LOSS_RISE[precision]


class Export(ApiModel):
    """Formats of the tuned model for devices, each proven against it and measured."""

    formats: Annotated[list[ExportFormat], Field(min_length=1, max_length=MAX_FORMATS)]
    rows: Annotated[int, Field(ge=1, le=4096)] = Field(
        64, description="Held-out rows by whose loss formats are compared with the tuned model."
    )
    prompts: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="Held-out prompts whose greedy answers of 64 tokens are compared."
    )
    context_length: Annotated[
        Annotated[int, Field(ge=128, le=1_048_576)] | None,
        DecidedLater(f"{DEFAULT_MAX_MODEL_LENGTH} or the model's context, the smaller"),
    ] = Field(
        None,
        description="Tokens of a conversation that a litert file has room for, in whole 128s; its "
        "cache is that large from the begin. Default: "
        f"{DEFAULT_MAX_MODEL_LENGTH} or the model's context, the smaller.",
    )
    gate: ExportGate = ExportGate()
    max_size: Annotated[Bytes | None, DecidedLater("no bound")] = Field(
        None, description="Most bytes that the files of a format may have. Default: no bound."
    )
    max_memory: Annotated[Bytes | None, DecidedLater("no bound")] = Field(
        None,
        description="Most memory that the process which runs a format may take, as measured while "
        "it answers. Default: no bound.",
    )

    def has(self, name: FormatName) -> bool:
        """Whether that format is asked for, in any precision."""
        return any(wanted.format == name for wanted in self.formats)


_OF_FORMAT: Final = " && ".join(
    f"(self.format != '{name}' || self.precision in {list(precisions)})"
    for name, precisions in PRECISIONS.items()
)

FORMAT_RULES: Final[tuple[Rule[ExportFormat], ...]] = (
    Rule(
        name="precision-of-format",
        scopes=("export.formats.*",),
        field="precision",
        holds=lambda wanted: wanted.precision in PRECISIONS[wanted.format],
        cel=_OF_FORMAT,
        message="onnx has fp32, fp16 and int4, gguf F16, Q8_0 and Q4_0, litert fp32 and int8; "
        "choose one of them",
    ),
)
RULES: Final[tuple[Rule[Export], ...]] = (
    Rule(
        name="export-formats-differ",
        scopes=("export",),
        field="formats",
        holds=lambda export: len({wanted.name for wanted in export.formats}) == len(export.formats),
        cel="self.formats.all(one, self.formats.exists_one(other, "
        "other.format == one.format && other.precision == one.precision))",
        message="a format is named twice with the same precision; name each once",
    ),
    Rule(
        name="context-length-is-litert-s",
        scopes=("export",),
        field="contextLength",
        holds=lambda export: export.context_length is None or export.has("litert"),
        cel="!has(self.contextLength) || self.formats.exists(one, one.format == 'litert')",
        message="only litert has a cache of a size that is chosen when it is written; add it to "
        "formats, or leave contextLength out",
    ),
)

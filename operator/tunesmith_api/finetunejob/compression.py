"""`spec.compression`: how the model is made smaller, and how much of its quality must survive."""

from typing import Annotated, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel


class Quantize(ApiModel):
    """Quantization of the merged model."""

    scheme: Literal["none", "W8A8", "W4A16", "FP8"] = Field(
        "W8A8",
        description="W8A8: int8 weights and activations. W4A16: 4-bit GPTQ weights. FP8: "
        "GPU only, untested. none: bf16.",
    )
    group_size: Literal[32, 64, 128] | None = Field(
        None,
        description="Columns that share a W4A16 scale. Default: the largest that divides "
        "the layers.",
    )
    calibration_rows: Annotated[int, Field(ge=1, le=4096)] = 128


class CompressionGate(ApiModel):
    """How much of the tuned model's quality must survive."""

    min_recovery: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Default: 0.99 for 8 bit, 0.97 for 4 bit."
    )
    fallback: Literal["widen", "fail"] = Field(
        "widen", description="After a failed gate: try the next wider scheme, or fail the job."
    )


class Compression(ApiModel):
    """Merge the adapters, quantize, and prove that little was lost."""

    quantize: Quantize = Quantize()
    gate: CompressionGate = CompressionGate()

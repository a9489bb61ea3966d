"""A format for devices as `export` tells of it, with fields replaced."""

from typing import Any

from tunesmith_api.results import ExportedFormat


def exported_format(**fields: Any) -> ExportedFormat:
    told = {
        "name": "onnx-int4",
        "format": "onnx",
        "precision": "int4",
        "path": "exports/onnx-int4",
        "digest": f"sha256:{'0' * 64}",
        "bytes": 90 << 20,
        "bf16_bytes": 256 << 20,
        "engine": "onnxruntime-genai 0.18.0",
        "rows": 64,
        "loss": 2.1,
        "tuned_loss": 2.0,
        "max_loss_rise": 0.2,
        "agreed_tokens": 100,
        "compared_tokens": 256,
        "differs": True,
        "tokenizes_alike": True,
        "tokens_per_second": 50.0,
        "prompt_tokens_per_second": 400.0,
        "peak_memory_bytes": 300 << 20,
        "load_seconds": 0.5,
        "threads": 2,
    }
    return ExportedFormat.model_validate({**told, **fields})

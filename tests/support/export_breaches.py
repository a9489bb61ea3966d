"""What breaks the rules of `spec.export`, and the nearest thing that keeps them."""

from typing import Any

INT4 = {"format": "onnx", "precision": "int4"}
FP32 = {"format": "onnx", "precision": "fp32"}
Q8_0 = {"format": "gguf", "precision": "Q8_0"}
INT8 = {"format": "litert", "precision": "int8"}
ADAPTER = {"output": {"model": "m", "artifact": "adapter"}}
NOT_COMPRESSED = {"compression": {"quantize": {"scheme": "none"}}}

# As in `rule_breaches`, which holds them, too.
EXPORT_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "precision-of-format": [
        (
            {"export": {"formats": [INT4, {**Q8_0, "precision": "int4"}]}},
            "spec.export.formats[1].precision",
            {"export": {"formats": [INT4, Q8_0]}},
        )
    ],
    "export-formats-differ": [
        (
            {"export": {"formats": [INT4, Q8_0, INT4]}},
            "spec.export.formats",
            {"export": {"formats": [INT4, Q8_0, FP32]}},
        )
    ],
    "context-length-is-litert-s": [
        (
            {"export": {"formats": [INT4, Q8_0], "contextLength": 512}},
            "spec.export.contextLength",
            {"export": {"formats": [INT4, INT8], "contextLength": 512}},
        )
    ],
    "exports-are-whole-models": [
        (
            {**ADAPTER, **NOT_COMPRESSED, "export": {"formats": [INT4]}},
            "spec.export",
            {
                "output": {"model": "m", "artifact": "both"},
                **NOT_COMPRESSED,
                "export": {"formats": [INT4]},
            },
        )
    ],
}

"""What breaks the rules about what is published as an adapter, and the nearest that keeps them."""

from typing import Any

ARTIFACT_BREACHES: dict[str, list[tuple[dict[str, Any], str, dict[str, Any]]]] = {
    "adapters-alone-are-not-compressed": [
        (
            {"output": {"model": "m", "artifact": "adapter"}},
            "spec.compression.quantize.scheme",
            {
                "output": {"model": "m", "artifact": "adapter"},
                "compression": {"quantize": {"scheme": "none"}},
            },
        )
    ],
    "adapters-alone-have-no-ladder": [
        (
            {
                "output": {"model": "m", "artifact": "adapter"},
                "compression": {"quantize": {"scheme": "none"}, "ladder": {"schemes": ["W8A8"]}},
            },
            "spec.compression.ladder",
            {
                "output": {"model": "m", "artifact": "both"},
                "compression": {"quantize": {"scheme": "none"}, "ladder": {"schemes": ["W8A8"]}},
            },
        )
    ],
    "guesses-of-whole-models": [
        (
            {"output": {"model": "m", "artifact": "both"}, "serving": {"speculative": {}}},
            "spec.serving.speculative",
            {"output": {"model": "m", "artifact": "merged"}, "serving": {"speculative": {}}},
        ),
        (
            {
                "output": {"model": "m", "artifact": "adapter"},
                "compression": {"quantize": {"scheme": "none"}},
                "serving": {"speculative": {"method": "draftModel"}},
            },
            "spec.serving.speculative",
            {
                "output": {"model": "m", "artifact": "merged"},
                "compression": {"quantize": {"scheme": "none"}},
                "serving": {"speculative": {"method": "draftModel"}},
            },
        ),
    ],
}

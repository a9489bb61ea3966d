"""Which layers of a base vLLM keeps ready for adapters: every linear one but the head.

NB: with the head among them, which is vLLM's default, a request for `prompt_logprobs` beside any
other ends the engine (vLLM 0.32 on CPUs): it indexes the prompt's tokens by requests. Fingerprints
are such requests, and clients may send them. Nothing here trains adapters of a head.
"""

from pathlib import Path
from typing import Final

_LEFT_OUT: Final = ("lm_head", "embed", "wte", "wpe", "output")
_MATRIX: Final = 2


def adapted_modules(folder: Path) -> list[str]:
    """The last part of the names of those layers, in order; `folder` is the base's.

    Raises:
        OSError: a file of weights cannot be read.
    """
    from safetensors import safe_open

    names = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="np") as weights:
            names |= {
                name.split(".")[-2]
                for name in weights.keys()  # noqa: SIM118 - no mapping
                if name.endswith(".weight") and len(weights.get_slice(name).get_shape()) == _MATRIX
            }
    return sorted(name for name in names if not name.startswith(_LEFT_OUT))

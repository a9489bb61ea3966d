"""The part of a version that is an adapter: where it lies, and on which base it runs.

    adapter/                    in PEFT's format, as vLLM loads it
    adapter.json                an `AdapterRecord`
    adapter-fingerprints.json   beside a merged model, which has fingerprints.json for itself

The base lies beside the versions, at `bases/DIGEST`, once for all versions that share it.
"""

from typing import Annotated, Final

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.modelversion import Digest

ADAPTER_FOLDER: Final = "adapter"
ADAPTER_RECORD: Final = "adapter.json"
ADAPTER_FINGERPRINTS: Final = "adapter-fingerprints.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
BASES: Final = "bases"
# 48 bits of the digest: whoever publishes an equal base finds it by its name.
_BASE_NAME_DIGITS: Final = 12
# What a version has as its scheme that is an adapter alone.
ADAPTER_SCHEME: Final = "adapter"


def base_name(digest: str) -> str:
    """The name, below `bases/`, of the base with this digest."""
    return digest.removeprefix("sha256:")[:_BASE_NAME_DIGITS]


class AdapterRecord(ApiModel):
    """What an adapter needs to run.

    It is part of the version, and so of its digest: a base cannot be exchanged under an adapter.
    """

    base_digest: Digest
    rank: Annotated[int, Field(ge=1)]

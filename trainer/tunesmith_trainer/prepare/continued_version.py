"""A published version as the base model: its files apart from its documents, its adapter merged.

`base_model` asks for it. The folder that comes of it holds a model and nothing else: later stages
hand on whatever lies in it.
"""

import shutil
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from tunesmith_engine.sources.adapter_version import ADAPTER_FOLDER, AdapterRecord
from tunesmith_engine.sources.errors import unusable_model
from tunesmith_engine.sources.published_model import (
    PublishedModel,
    base_beside,
    is_quantized,
    quantized,
    read_published,
)
from tunesmith_engine.sources.resolver import fetch_model
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.compress.merge import TOKENIZER_FILES, save_merged
from tunesmith_trainer.models import merged_model

_MODEL_FILES: Final = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    *TOKENIZER_FILES,
)


@dataclass(frozen=True, slots=True)
class ContinuedVersion:
    """What is continued.

    `weights` is the folder whose weights count; `adapter` the folder that is merged into them, if
    any. `digest` is the version's, None where the folder is the base of adapters.
    """

    weights: Path
    adapter: Path | None
    digest: str | None

    def write(self, target: Path) -> Path:
        """Make the model in `target`; return it."""
        shutil.rmtree(target, ignore_errors=True)
        if self.adapter is not None:
            target.mkdir(parents=True)
            model = merged_model(self.weights, adapter=self.adapter)
            save_merged(model, target, tokenizer_folder=self.weights)
            return target
        target.mkdir(parents=True)
        for path in self.weights.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in _MODEL_FILES):
                (target / path.name).symlink_to(path.resolve())
        return target


def continued_version(request: StageRequest, folder: Path) -> ContinuedVersion | None:
    """The version in `folder`, which was fetched for the job; None if it is none of Tunesmith's.

    Raises:
        SourceError: it is quantized, or not what was published, or its base is not beside it.
    """
    uri = request.spec.model.uri
    published = read_published(folder, uri=uri, cache=Path(request.cache))
    if published is None:
        return None
    digest = published.digest if published.is_version else None
    if published.has_weights and not is_quantized(folder):
        return ContinuedVersion(weights=folder, adapter=None, digest=digest)
    if published.adapter is None:
        raise quantized(folder, uri=uri)
    base = _fetch_base(request, published.adapter)
    return ContinuedVersion(weights=base, adapter=folder / ADAPTER_FOLDER, digest=digest)


def _fetch_base(request: StageRequest, record: AdapterRecord) -> Path:
    source = base_beside(request.spec.model, digest=record.base_digest)
    folder = fetch_model(
        source,
        base=Path(request.base),
        cache=Path(request.cache),
        secrets=Path(request.secrets),
    )
    base: PublishedModel | None = read_published(folder, uri=source.uri, cache=Path(request.cache))
    if base is None or base.digest != record.base_digest:
        raise unusable_model(source.uri, because="it is not the base that the adapter names")
    return folder

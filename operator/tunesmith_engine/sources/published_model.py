"""A published version as the base model of another job.

Its files are proven by its manifest. A version that is an adapter lies beside its base, as
`adapter_version.py` says; prepare merges the two.
"""

from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.json_io import read_json
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_RECORD,
    BASES,
    AdapterRecord,
    base_name,
)
from tunesmith_engine.sources.digest_cache import cached_digest
from tunesmith_engine.sources.errors import SourceError, unusable_model
from tunesmith_engine.sources.model_formats import WANTED_PATTERNS
from tunesmith_engine.sources.version_manifest import MANIFEST, RECORD, parse_manifest

_SETTINGS: Final = "config.json"
_LINEAGE: Final = "lineage.json"


@dataclass(frozen=True, slots=True)
class PublishedModel:
    """A folder that Tunesmith has published whole.

    `digest` is that of its manifest, and so of the version; `is_version` is False of the base of
    adapters. `files` are the names of the files at its top.
    """

    digest: str
    is_version: bool
    files: frozenset[str]
    adapter: AdapterRecord | None

    @property
    def has_weights(self) -> bool:
        """Whether it is a model by itself."""
        return _SETTINGS in self.files


def read_published(folder: Path, *, uri: str, cache: Path) -> PublishedModel | None:
    """What Tunesmith has published in `folder`; None where it has not.

    Raises:
        SourceError: a file is not what its manifest says.
        OSError: a file cannot be read.
    """
    path = folder / MANIFEST
    manifest = parse_manifest(path.read_bytes()) if path.is_file() else None
    if manifest is None:
        return None
    for name, file in manifest.files.items():
        is_wanted = any(fnmatch(Path(name).name, pattern) for pattern in WANTED_PATTERNS)
        # Of a remote version only what can be loaded was fetched.
        if not is_wanted and not (folder / name).exists():
            continue
        if not (folder / name).is_file():
            raise _changed(uri, because=f"{name} is missing")
        if cached_digest(folder / name, cache=cache) != file.digest:
            raise _changed(uri, because=f"{name} is not the file that was published")
    record = folder / ADAPTER_RECORD
    return PublishedModel(
        digest=manifest.digest(),
        is_version=RECORD in manifest.files,
        files=frozenset(name for name in manifest.files if "/" not in name),
        adapter=AdapterRecord.model_validate_json(record.read_bytes())
        if ADAPTER_RECORD in manifest.files
        else None,
    )


def base_beside(version: ModelSource, *, digest: str) -> ModelSource:
    """Where the base of an adapter's version lies: beside the versions."""
    beside = version.uri.rstrip("/").rpartition("/")[0]
    return version.model_copy(update={"uri": f"{beside}/{BASES}/{base_name(digest)}"})


def folder_with_weights(folder: Path) -> Path:
    """`folder`, or the base beside it if it is the version of an adapter alone."""
    if (folder / _SETTINGS).exists() or not (folder / ADAPTER_RECORD).exists():
        return folder
    record = AdapterRecord.model_validate_json((folder / ADAPTER_RECORD).read_bytes())
    return folder.parent / BASES / base_name(record.base_digest)


def is_quantized(folder: Path) -> bool:
    """Whether the weights in `folder` are quantized."""
    return "quantization_config" in _json(folder / _SETTINGS)


def quantized(folder: Path, *, uri: str) -> SourceError:
    """A quantized model cannot be trained."""
    base = _json(folder / _LINEAGE).get("baseModel")
    remedy = (
        "publish that version with compression.quantize.scheme: none, or output.artifact: both or "
        f"adapter, or name its base, {base}"
        if base
        else "name its bf16 weights, or a GGUF file"
    )
    return SourceError(
        Reason.BASE_MODEL_NOT_FOUND,
        f"model.uri: {uri} holds quantized weights, which cannot be trained; {remedy}.",
    )


def _changed(uri: str, *, because: str) -> SourceError:
    return unusable_model(uri, because=f"it has changed since it was published: {because}")


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = read_json(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}

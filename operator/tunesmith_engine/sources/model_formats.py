"""What a model may be: safetensors or GGUF, whole, and without code of its own.

A pickle runs whatever its author wrote when it is loaded, and so does a model with an `auto_map`;
both are refused before any library opens them.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    ADAPTER_WEIGHTS,
)
from tunesmith_engine.sources.errors import SourceError, unusable_model
from tunesmith_engine.sources.gguf_header import read_gguf_header
from tunesmith_engine.sources.safetensors_header import read_safetensors_header

# What is fetched of a model folder: weights that cannot run code, and text.
WANTED_PATTERNS: Final = ("*.safetensors", "*.json", "*.jinja", "*.txt", "tokenizer.model")
INDEX: Final = "model.safetensors.index.json"
# A tokenizer's settings have some megabytes.
_MAX_JSON_BYTES: Final = 100_000_000
_PICKLES: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_SETTINGS: Final = ("config.json", "tokenizer_config.json", "processor_config.json")
_TOKENIZERS: Final = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


def require_usable(path: Path, *, uri: str) -> None:
    """Check a model on this machine: a .gguf file, or a folder.

    Raises:
        SourceError: UnsafeWeights, RemoteCodeRefused, or BaseModelNotFound where a part is missing
            or damaged.
        OSError: a file cannot be read.
    """
    if path.is_dir():
        require_names((file.name for file in path.iterdir()), uri=uri)
        _require_no_code(path, uri=uri)
        # Headers, so that a download that was cut off is told apart from a model in a second.
        adapter = (
            [f"{ADAPTER_FOLDER}/{ADAPTER_WEIGHTS}"] if (path / ADAPTER_RECORD).exists() else []
        )
        for name in (*_shards(path, uri=uri), *adapter):
            try:
                read_safetensors_header(path / name)
            except FileNotFoundError as error:
                raise unusable_model(uri, because=f"{name} is missing") from error
            except ValueError as error:
                raise unusable_model(uri, because=f"{name}: {error}") from error
        return
    require_file_name(path.name, uri=uri)
    try:
        read_gguf_header(path)
    except ValueError as error:
        raise unusable_model(uri, because=str(error)) from error


def require_file_name(name: str, *, uri: str) -> None:
    """Check the name of a model that is one file.

    Raises:
        SourceError: it is not a .gguf file.
    """
    if name.endswith(_PICKLES):
        raise _unsafe(uri, name)
    if not name.endswith(".gguf"):
        raise unusable_model(uri, because=f"{name} is no .gguf file")


def require_names(names: Iterable[str], *, uri: str) -> None:
    """Check the names of the files in a model folder, before any is fetched.

    Raises:
        SourceError: UnsafeWeights, or BaseModelNotFound where a part is missing.
    """
    known = sorted(names)
    if ADAPTER_RECORD in known and "config.json" not in known:
        # A published version that is an adapter alone: weights and tokenizer are its base's.
        return
    # A pickle beside safetensors does no harm: it is neither fetched nor loaded.
    if not any(name.endswith(".safetensors") for name in known):
        pickle = next((name for name in known if name.endswith(_PICKLES)), None)
        if pickle is not None:
            raise _unsafe(uri, pickle)
        gguf = next((name for name in known if name.endswith(".gguf")), None)
        hint = f"; {gguf} is there: name that file" if gguf else ""
        raise unusable_model(uri, because=f"it has no *.safetensors file{hint}")
    if "config.json" not in known:
        raise unusable_model(uri, because="it has no config.json")
    if not any(name in known for name in _TOKENIZERS):
        raise unusable_model(uri, because="it has no tokenizer (tokenizer.json)")


def _require_no_code(folder: Path, *, uri: str) -> None:
    for name in _SETTINGS:
        path = folder / name
        if path.exists() and "auto_map" in _json_object(path, uri=uri):
            raise SourceError(
                Reason.REMOTE_CODE_REFUSED,
                f"{uri} wants to run its own code: {name} has an auto_map. Tunesmith never runs "
                "code of a model; take one whose architecture transformers brings.",
            )


def _shards(folder: Path, *, uri: str) -> list[str]:
    """The weight files of the folder: those that its index names, if it has one."""
    names = {path.name for path in folder.glob("*.safetensors")}
    if (folder / INDEX).exists():
        weights = _json_object(folder / INDEX, uri=uri).get("weight_map")
        if not isinstance(weights, dict):
            raise unusable_model(uri, because=f"{INDEX} has no weight_map")
        named = {str(name) for name in weights.values()}
        # NB: transformers joins these names to the folder, and would follow `..` out of it.
        outside = next((name for name in sorted(named) if Path(name).name != name), None)
        if outside is not None:
            raise unusable_model(uri, because=f"{INDEX} names a file elsewhere: {outside}")
        names |= named
    return sorted(names)


def _json_object(path: Path, *, uri: str) -> dict[str, Any]:
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise unusable_model(uri, because=f"{path.name} has more than {_MAX_JSON_BYTES:,} bytes")
    try:
        value = read_json(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise unusable_model(uri, because=f"{path.name} is no JSON") from error
    if not isinstance(value, dict):
        raise unusable_model(uri, because=f"{path.name} is no JSON object")
    return value


def _unsafe(uri: str, name: str) -> SourceError:
    return SourceError(
        Reason.UNSAFE_WEIGHTS,
        f"{uri} has its weights as a pickle ({name}), which can run any code when it is loaded; "
        "take a safetensors or GGUF edition of the model.",
    )

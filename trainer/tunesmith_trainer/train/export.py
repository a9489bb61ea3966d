"""The artifact `tuned`: an adapter folder in PEFT's format, or a model folder with its tokenizer.

The first `worker` writes it once the best weights are back in the model. It names no folder of the
machine that made it.
"""

import json
import shutil
from pathlib import Path
from typing import Any

TUNED = "tuned"

_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "*.model",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
)


def export_tuned(model: Any, *, base: Path, base_uri: str, output: Path) -> Path:
    """Write `output/tuned`, replacing one that an interrupted attempt left; return the folder.

    `base` is the folder of the base model, `base_uri` the name that users know it by.
    """
    temporary, final = output / f".{TUNED}", output / TUNED
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    if hasattr(model, "peft_config"):
        _write_adapter(model, temporary, base_uri=base_uri)
    else:
        _write_model(model, temporary, base=base)
    temporary.rename(final)
    return final


def _write_adapter(model: Any, folder: Path, *, base_uri: str) -> None:
    model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = _hub_name(base_uri)
    if isinstance(config["target_modules"], list):  # a set in PEFT: its order changes by process
        config["target_modules"].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _hub_name(base_uri: str) -> str | None:
    """What PEFT finds an hf:// base by; other bases are known to the job alone."""
    scheme, _, rest = base_uri.partition("://")
    return rest.split("@")[0] if scheme == "hf" else None


def _write_model(model: Any, folder: Path, *, base: Path) -> None:
    model.config.use_cache = True
    model.save_pretrained(folder)
    for pattern in _TOKENIZER_FILES:
        for path in base.glob(pattern):
            shutil.copyfile(path, folder / path.name)

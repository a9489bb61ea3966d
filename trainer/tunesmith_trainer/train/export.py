"""The artifact `tuned`: an adapter folder in PEFT's format, or a model folder with its tokenizer.

The first `worker` writes it once the best weights are back in the model. It names no folder of the
machine that made it.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoConfig

from tunesmith_trainer.models import ADAPTER_SETTINGS, TUNED
from tunesmith_trainer.train.checkpoints import Tensors
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.parameter_groups import trainable_parameters
from tunesmith_trainer.train.sharding import gather

_ALONE: Final = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))

# Also the chat template: a full model is served from its own folder, an adapter from its base's.
_TOKENIZER_FILES = (
    "tokenizer*",
    "*.jinja",
    "*.model",
    "special_tokens_map.json",
    "vocab*",
    "merges*",
)


def export_tuned(
    model: Any, *, base: Path, base_uri: str, output: Path, group: WorkerGroup = _ALONE
) -> Path:
    """Write `output/tuned`, replacing one that an interrupted attempt left; return the folder.

    `base` is the folder of the base model, `base_uri` the name that users know it by. The first
    worker of `group` writes; of a sharded model all workers have to call it, and the first one has
    the whole of it in the memory of its processor.
    """
    weights = _gathered(model, group=group) if group.is_sharded else None
    if not group.is_first:
        return output / TUNED
    temporary, final = output / f".{TUNED}", output / TUNED
    # No crash window to mind: a folder without the stage's result is no artifact yet.
    for leftover in (temporary, final):
        shutil.rmtree(leftover, ignore_errors=True)
    if hasattr(model, "peft_config"):
        _write_adapter(model, temporary, base_uri=base_uri, weights=weights)
    else:
        _write_model(model, temporary, base=base, weights=weights)
    temporary.rename(final)
    return final


def _gathered(model: Any, *, group: WorkerGroup) -> Tensors:
    if hasattr(model, "peft_config"):
        return gather(trainable_parameters(model), keep=group.is_first)
    # A tied matrix once, under its first name, as save_pretrained would have it.
    aliases = (
        dict(model.named_parameters(remove_duplicate=False)).keys()
        - dict(model.named_parameters()).keys()
    )
    held = {name: value for name, value in model.state_dict().items() if name not in aliases}
    return gather(held, keep=group.is_first)


def _write_adapter(model: Any, folder: Path, *, base_uri: str, weights: Tensors | None) -> None:
    # NB: save_embedding_layers is "auto" by default, which asks the hub about the base model.
    model.save_pretrained(
        folder, state_dict=weights, safe_serialization=True, save_embedding_layers=False
    )
    # PEFT's template of a model card: publish writes one that says something.
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / ADAPTER_SETTINGS
    config = json.loads(path.read_text(encoding="utf-8"))
    # PEFT finds an hf:// base by this name; other bases are known to the job alone, and the path
    # that PEFT wrote here is one of the machine that trained.
    scheme, _, name = base_uri.partition("://")
    config["base_model_name_or_path"] = name.split("@")[0] if scheme == "hf" else None
    # NB: sets in PEFT, whose order changes from process to process; equal adapters are equal bytes.
    for name in ("target_modules", "exclude_modules"):
        if isinstance(config[name], list):
            config[name].sort()
    path.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _write_model(model: Any, folder: Path, *, base: Path, weights: Tensors | None) -> None:
    # Training had switched it off, and generation of whoever loads this would crawl.
    model.config.use_cache = True
    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    if hasattr(config, "attention_dropout"):
        # What training set is none of the model's own.
        model.config.attention_dropout = config.attention_dropout
    model.save_pretrained(folder, state_dict=weights)
    for pattern in _TOKENIZER_FILES:
        for path in base.glob(pattern):
            shutil.copyfile(path, folder / path.name)

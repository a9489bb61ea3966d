"""A published version with a random model of two layers, small enough to be served in a test.

Its fingerprints come from transformers in float32, which vLLM matches to millionths of a nat.
"""

import json
import shutil
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from small_models import CHATML, CORPUS, make_tiny_model, make_tiny_tokenizer
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    AdapterRecord,
)
from tunesmith_engine.sources.version_manifest import MANIFEST, VersionManifest, manifest_of
from tunesmith_serving.settings import ServingSettings

MODEL = "helpdesk"
_ANSWER_TOKENS = 8
_RANK = 4
_ALPHA = 8


def make_version(folder: Path, *, seed: int = 0, chat_template: str = CHATML) -> str:
    """Write the version into `folder` and return its digest."""
    make_tiny_model(folder, seed=seed)
    make_tiny_tokenizer(chat_template=chat_template).save_pretrained(folder)
    settings = ServingSettings(
        model=MODEL, dtype="float32", enforce_eager=True, max_model_length=512
    )
    (folder / "serving.json").write_text(settings.model_dump_json(by_alias=True))
    write_fingerprints(folder)
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    return manifest.digest()


def write_fingerprints(folder: Path) -> None:
    """What `verify` would have seen of the model in `folder`."""
    probes = {"dtype": "float32", "probes": _probes(folder), "chats": _chats(folder)}
    (folder / "fingerprints.json").write_text(json.dumps(probes))


def _chats(folder: Path) -> list[JsonValue]:
    from transformers import AutoTokenizer

    from tunesmith_trainer.compress.known_chats import known_chats

    return known_chats(AutoTokenizer.from_pretrained(folder))


def _probes(folder: Path) -> list[dict[str, Any]]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    probes = []
    for text in CORPUS:
        ids = tokenizer(text).input_ids
        given = torch.tensor([ids])
        with torch.inference_mode():
            logprobs = model(given).logits[0].log_softmax(-1)[:-1]
        known = logprobs.gather(-1, given[0, 1:, None])[-_ANSWER_TOKENS:, 0]
        probes.append(
            {
                "promptIds": ids[:-_ANSWER_TOKENS],
                "answerIds": ids[-_ANSWER_TOKENS:],
                "logprobs": known.tolist(),
            }
        )
    return probes


def make_base(folder: Path) -> str:
    """Write the base of adapters into `folder` and return its digest."""
    make_version(folder)
    (folder / MANIFEST).unlink()
    (folder / "fingerprints.json").unlink()
    manifest = manifest_of(folder)
    (folder / MANIFEST).write_text(manifest.text())
    return manifest.digest()


def make_adapter_version(folder: Path, *, base: Path, seed: int) -> None:
    """Write a version with a random LoRA adapter; its fingerprints come from the merged weights."""
    import torch
    from safetensors.torch import load_file, save_file

    adapter = folder / ADAPTER_FOLDER
    adapter.mkdir(parents=True)
    weights = load_file(base / "model.safetensors")
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, Any] = {}
    for name in [name for name in weights if name.endswith(("q_proj.weight", "down_proj.weight"))]:
        outputs, inputs = weights[name].shape
        low = torch.randn(_RANK, inputs, generator=generator)
        high = torch.randn(outputs, _RANK, generator=generator) / 4
        path = f"base_model.model.{name.removesuffix('.weight')}"
        tensors |= {f"{path}.lora_A.weight": low, f"{path}.lora_B.weight": high}
        weights[name] = weights[name] + _ALPHA / _RANK * high @ low
    save_file(tensors, adapter / "adapter_model.safetensors")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": _RANK,
        "lora_alpha": _ALPHA,
        "bias": "none",
        "target_modules": ["q_proj", "down_proj"],
        "base_model_name_or_path": None,
    }
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    merged = folder.with_name(f"{folder.name}-merged")
    shutil.copytree(base, merged)
    save_file(weights, merged / "model.safetensors", metadata={"format": "pt"})
    probes = {"dtype": "float32", "probes": _probes(merged)}
    (folder / "fingerprints.json").write_text(json.dumps(probes))
    manifest = VersionManifest.model_validate_json((base / MANIFEST).read_text())
    record = AdapterRecord(base_digest=manifest.digest(), rank=_RANK)
    (folder / ADAPTER_RECORD).write_text(record.model_dump_json(by_alias=True))


def make_reference(folder: Path, path: Path, *, answers_of: Path | None = None) -> None:
    """Write greedy answers as compress leaves them, scored by the model in `folder`.

    `answers_of` is the model that gives them, where it is another one.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    given, scored = (
        AutoModelForCausalLM.from_pretrained(each, dtype=torch.float32).eval()
        for each in (answers_of or folder, folder)
    )
    prompts = []
    for text in CORPUS:
        ids = tokenizer(text).input_ids[:_ANSWER_TOKENS]
        with torch.inference_mode():
            whole = torch.tensor([ids])
            for _ in range(_ANSWER_TOKENS):
                whole = torch.cat([whole, given(whole).logits[:, -1:].argmax(-1)], dim=1)
            logprobs = scored(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1)
        answer = whole[0, len(ids) :]
        known = logprobs.gather(-1, answer[:, None])[:, 0].tolist()
        prompts.append(
            {"promptIds": ids, "answerIds": answer.tolist(), "logprobs": known, "kind": "probe"}
        )
    path.write_text(json.dumps({"dtype": "float32", "prompts": prompts}))

"""What a replica may come to serve in place of its version, in the trainer's environment.

From a prepared model: `base`; the same with weights rounded to four and eight bits in groups of 64,
kept as bfloat16, so that a running engine can take them in; and adapters. `own` was trained on
one half of the rows, `later` is the same a few steps on, `other` was trained on the other half.
Prints the folder.
"""

import json
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tunesmith_serving.settings import ServingSettings
from tunesmith_trainer.compress.reference_generations import (
    PROBE_PROMPTS,
    PromptIds,
    chat_prompt_ids,
    generate_reference,
)
from tunesmith_trainer.data.token_rows import TokenRows

_GROUP: Final = 64
_NEW_TOKENS: Final = 32
_NUM_PROMPTS: Final = 20
_RANK, _ALPHA, _RATE = 8, 16, 5e-4
_STEPS, _LATER_STEPS, _BATCH, _LONGEST = 24, 2, 4, 128


def main(base: Path, data: Path, folder: Path) -> None:
    """Write everything below `folder`."""
    shutil.copytree(base, folder / "base", dirs_exist_ok=True)
    settings = ServingSettings(
        model="helpdesk", dtype="bfloat16", enforce_eager=True, max_model_length=512
    )
    for name, bits in {"base": None, "int8": 8, "int4": 4}.items():
        model = _model(base)
        if bits is not None:
            _round_weights(model, bits=bits)
            model.save_pretrained(folder / name)
        (folder / name / "serving.json").write_text(settings.model_dump_json(by_alias=True))
    _write_reference(_model(base), base, folder / "base")
    halves = _halves(TokenRows.load(data / "train.safetensors"))
    for name, half in {"other": halves[1], "own": halves[0]}.items():
        tuned = _adapted(base)
        _train(tuned, half, num_steps=_STEPS)
        tuned.save_pretrained(folder / "adapters" / name)
    _train(tuned, halves[0][:_BATCH] * _LATER_STEPS, num_steps=_LATER_STEPS)
    tuned.save_pretrained(folder / "adapters" / "later")
    own = _model(base)
    merged = PeftModel.from_pretrained(own, folder / "adapters" / "own").merge_and_unload()
    _write_reference(merged, base, folder / "adapters" / "own")


def _model(base: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).eval()


def _round_weights(model: PreTrainedModel, *, bits: int) -> None:
    """Symmetric, to the nearest, one scale for each group of inputs: as W4A16 without GPTQ."""
    most = 2 ** (bits - 1) - 1
    for name, weight in model.named_parameters():
        if name.endswith("_proj.weight"):
            groups = weight.detach().float().unflatten(1, (-1, _GROUP))
            scale = groups.abs().amax(-1, keepdim=True) / most
            weight.data.copy_(((groups / scale).round() * scale).flatten(1))


def _write_reference(model: PreTrainedModel, base: Path, folder: Path) -> None:
    """`reference.json`, as compress leaves it for verify."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked = [PromptIds(chat_prompt_ids(tokenizer, text), "probe") for text in PROBE_PROMPTS]
    content = generate_reference(
        model.float(), tokenizer, asked[:_NUM_PROMPTS], max_new_tokens=_NEW_TOKENS
    )
    (folder / "reference.json").write_text(json.dumps(content))


def _halves(rows: TokenRows) -> tuple[list[list[int]], list[list[int]]]:
    """Token ids of every other row, and of the rest."""
    bounds = pairwise(rows.offsets.tolist())
    listed = [rows.input_ids[begin:end][:_LONGEST].tolist() for begin, end in bounds]
    return listed[::2], listed[1::2]


def _adapted(base: Path) -> Any:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(
        r=_RANK, lora_alpha=_ALPHA, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def _train(model: Any, rows: list[list[int]], *, num_steps: int) -> None:
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=_RATE)
    for step in range(num_steps):
        batch = [rows[(step * _BATCH + place) % len(rows)] for place in range(_BATCH)]
        longest = max(map(len, batch))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
        is_row = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
        labels = ids.masked_fill(is_row == 0, -100)
        model(input_ids=ids, attention_mask=is_row, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
    print(json.dumps({"folder": sys.argv[3]}))

"""A job as it stands after `train`: tiny model, a few chat rows, and adapters of any strength."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from small_models import make_tiny_model
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_trainer.data.prepared import RowRecord, write_row_records
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.data.token_rows import TokenRows

QUESTIONS = (
    ("My screen stays dark.", "Check the cable between the screen and the computer first."),
    ("The printer is out of paper.", "Open the lower tray and put in a new pack."),
    ("I forgot my password.", "Choose the link below the form, and follow the mail."),
    ("The mouse does not move.", "Change its battery, then try another port."),
)


class SilentReporter:
    """Progress that nobody reads."""

    def progress(self, message: str, **_: Any) -> None:
        """Forget it."""


def make_tuned_job(
    root: Path,
    *,
    scale: float = 0.02,
    method: str = "lora",
    make_model: Callable[[Path], Path] = make_tiny_model,
) -> Path:
    """Write what `prepare` and `train` leave behind; return the folder that holds it."""
    model = make_model(root / "model")
    _write_data(root / "data", AutoTokenizer.from_pretrained(model))
    _write_tuned(root / "tuned", base=model, scale=scale, method=method)
    return root


def request_for(root: Path, stage: StageName, *, output: Path, **spec: Any) -> StageRequest:
    """The request of a stage that follows `train`, with top-level fields of the spec replaced."""
    given = {
        "model": {"uri": "file://model"},
        "dataset": {"train": {"uri": "file://rows.jsonl"}},
        "output": {"model": "tiny"},
        "training": {"sequenceLength": 256},
        **spec,
    }
    output.mkdir(parents=True, exist_ok=True)
    return StageRequest(
        job="tiny",
        stage=stage,
        key="0" * 64,
        attempt=1,
        spec=FineTuneJobSpec.model_validate(given).with_defaults(),
        inputs={
            PREPARE.name: _result(PREPARE.name, root, "model", "data"),
            TRAIN.name: _result(TRAIN.name, root, "tuned"),
        },
        output=str(output),
        report=str(output.parent / "progress.json"),
        result=str(output.parent / "result.json"),
        base=str(root),
        cache=str(root / "cache"),
        secrets=str(root / "secrets"),
        models=str(root / "models"),
    )


def _write_data(folder: Path, tokenizer: Any) -> None:
    folder.mkdir(parents=True)
    for split, pairs in (("train", QUESTIONS), ("validation", QUESTIONS[::-1])):
        records, rows = [], []
        for place, (question, answer) in enumerate(pairs):
            prompt = _rendered(tokenizer, question)
            records.append(
                RowRecord(
                    source=f"rows.jsonl:{place + 1}",
                    messages=[Message("user", question), Message("assistant", answer)],
                    text=None,
                    prompt=prompt,
                    reference=answer,
                )
            )
            rows.append(_row(tokenizer, prompt, answer))
        write_row_records(records, folder / f"{split}.jsonl")
        TokenRows.of(rows).save(folder / f"{split}.safetensors")


def _rendered(tokenizer: Any, question: str) -> str:
    text: str = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
    )
    return text


def _row(tokenizer: Any, prompt: str, answer: str) -> tuple[list[int], list[bool]]:
    before = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    after = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    return before + after, [False] * len(before) + [True] * len(after)


def _write_tuned(folder: Path, *, base: Path, scale: float, method: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    torch.manual_seed(1)
    if method == "full":
        for parameter in model.model.layers.parameters():
            parameter.data += scale * torch.randn_like(parameter)
        model.save_pretrained(folder)
        return
    tuned = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data = scale * torch.randn_like(parameter)
    tuned.save_pretrained(folder)


def _result(stage: StageName, root: Path, *names: str) -> StageResult:
    return StageResult(
        stage=stage,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        artifacts=[artifact_of(name, root / name) for name in names],
    )

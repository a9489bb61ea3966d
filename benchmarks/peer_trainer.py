"""The peer of `training_throughput.py`: transformers' Trainer, run in the trainer environment.

`python peer_trainer.py MODEL DATA SEED STEPS` prints one JSON object. The settings are the defaults
of a job: LoRA of rank 16 on every linear layer, 2e-4, cosine with 5 % warm-up, batch 8, AdamW.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import peft
import torch
import transformers
from peft import LoraConfig, get_peft_model
from transformers import (
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from tunesmith_api.finetunejob.training import Training
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_model, load_tokenizer
from tunesmith_trainer.train.precision_probe import probe

IGNORED = -100


class StepClock(TrainerCallback):
    """Seconds spent in optimizer steps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.monotonic()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds += time.monotonic() - self._started


class CountingTrainer(Trainer):
    """Counts the tokens it trains on, and what was padding.

    The collator would count too many: the loader asks for the next batch ahead of its step.
    """

    num_tokens = 0
    num_padded = 0

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        self.num_tokens += int(inputs["attention_mask"].sum())
        self.num_padded += inputs["attention_mask"].numel()
        return super().training_step(model, inputs, num_items_in_batch)


def main(model_folder: Path, data: Path, seed: int, steps: int) -> dict[str, Any]:
    """Train, and say how fast and how well."""
    set_seed(seed)
    model = load_model(model_folder, dtype=torch.float32)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    clock = StepClock()
    trainer = CountingTrainer(
        model=get_peft_model(model, lora),
        args=_arguments(
            seed=seed,
            steps=steps,
            is_bf16_faster=probe(model_folder, training=Training()).precision == "bf16",
        ),
        train_dataset=_rows(data / "train.safetensors"),
        eval_dataset=_rows(data / "validation.safetensors"),
        data_collator=DataCollatorForSeq2Seq(
            load_tokenizer(model_folder), label_pad_token_id=IGNORED
        ),
        callbacks=[clock],
    )
    trainer.train()
    return {
        "tokensPerSecond": trainer.num_tokens / clock.seconds,
        "paddingShare": round(1 - trainer.num_tokens / trainer.num_padded, 3),
        "heldOutLoss": trainer.evaluate()["eval_loss"],
        "versions": {
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def _arguments(*, seed: int, steps: int, is_bf16_faster: bool) -> TrainingArguments:
    return TrainingArguments(
        output_dir=tempfile.mkdtemp(prefix="peer-trainer-"),
        per_device_train_batch_size=8,
        per_device_eval_batch_size=8,
        max_steps=steps,
        learning_rate=2e-4,
        lr_scheduler_type="cosine",
        warmup_steps=1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        bf16=is_bf16_faster,
        use_cpu=True,
        seed=seed,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def _rows(path: Path) -> list[dict[str, list[int]]]:
    rows = TokenRows.load(path)
    return [
        {
            "input_ids": ids.tolist(),
            "attention_mask": [1] * len(ids),
            "labels": [
                int(token) if is_target else IGNORED
                for token, is_target in zip(ids, trained, strict=True)
            ],
        }
        for ids, trained in (rows.row(index) for index in range(len(rows)))
    ]


if __name__ == "__main__":
    measured = main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(measured))

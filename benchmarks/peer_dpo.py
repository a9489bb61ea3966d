"""The peer of `dpo.py`: TRL's DPOTrainer, run in the trainer environment.

`python peer_dpo.py MODEL DATA TRL SEED STEPS BATCH RATE` prints one JSON object. TRL is the folder
that holds the package. Adapters and optimizer have the defaults of a job.
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import numpy as np
import peft
import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import SequentialSampler

from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_model, load_tokenizer
from tunesmith_trainer.train.dataloader import RowSampler


def main(
    model_folder: Path, data: Path, *, seed: int, steps: int, batch: int, rate: float
) -> dict[str, Any]:
    """Train, and say the loss of every step."""
    import trl

    class TokenTrainer(trl.DPOTrainer):
        """Takes rows that are tokens, in the order in which they are given."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return SequentialSampler(train_dataset or self.train_dataset)

    model = load_model(model_folder, dtype=torch.float32)
    # As the job draws them.
    torch.manual_seed(seed)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = TokenTrainer(
        model=get_peft_model(model, lora),
        args=trl.DPOConfig(
            output_dir=tempfile.mkdtemp(prefix="peer-dpo-"),
            beta=0.1,
            per_device_train_batch_size=batch,
            max_steps=steps,
            learning_rate=rate,
            lr_scheduler_type="constant",
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list(_rows(data, seed=seed, steps=steps, batch=batch)),
        processing_class=load_tokenizer(model_folder),
    )
    trainer.train()
    return {
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "margins": [
            line["rewards/margins"] for line in trainer.state.log_history if "loss" in line
        ],
        "versions": {
            "trl": trl.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "peft": peft.__version__,
        },
    }


def _rows(data: Path, *, seed: int, steps: int, batch: int) -> list[dict[str, list[int]]]:
    """The pairs of all steps, one step after the other."""
    chosen = TokenRows.load(data / "train.safetensors")
    rejected = TokenRows.load(data / "train.rejected.safetensors")
    sampler = RowSampler(len(chosen), batch_size=batch, seed=seed)
    drawn = [row for step in range(1, steps + 1) for row in sampler.rows_of(step)]
    rows = []
    for row in drawn:
        prompt, good = _cut(chosen, row)
        _, bad = _cut(rejected, row)
        rows.append({"prompt_ids": prompt, "chosen_ids": good, "rejected_ids": bad})
    return rows


def _cut(tokens: TokenRows, row: int) -> tuple[list[int], list[int]]:
    """Prompt and answer: the targets are one run, and what follows them is left out."""
    ids, trained = tokens.row(row)
    targets = np.flatnonzero(trained)
    return ids[: targets[0]].tolist(), ids[targets].tolist()


if __name__ == "__main__":
    # At the end of the path: whatever the trainer environment has is taken from there.
    sys.path.append(sys.argv[3])
    measured = main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        seed=int(sys.argv[4]),
        steps=int(sys.argv[5]),
        batch=int(sys.argv[6]),
        rate=float(sys.argv[7]),
    )
    print(json.dumps(measured))

"""A peer of `training_throughput.py`: TRL's SFTTrainer, run in the trainer environment.

`python peer_sft.py MODEL DATA TRL SEED STEPS ROWS LENGTH PACKING` prints one JSON object. TRL is
the folder that holds the package; PACKING is `bfd` or `none`. ROWS is the batch: packed, rows of
LENGTH tokens. Adapters and optimizer have the defaults of a job.
"""

import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"

import torch
import transformers
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from tunesmith_api.finetunejob.training import Training
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.models import load_model, load_tokenizer
from tunesmith_trainer.train.precision_probe import probe

MICRO_BATCH = 4


def main(
    model_folder: Path, data: Path, *, seed: int, steps: int, rows: int, length: int, packing: str
) -> dict[str, Any]:
    """Train, and say how fast, in how much memory, and how well."""
    import trl

    class TimedTrainer(trl.SFTTrainer):
        """Counts the real tokens that it trains on, and the seconds of its steps."""

        num_tokens = 0
        seconds = 0.0

        def training_step(self, model: Any, inputs: Any, *arguments: Any) -> Any:
            started = time.monotonic()
            mask = inputs.get("attention_mask")
            # A packed batch has no padding, and no mask.
            self.num_tokens += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            loss = super().training_step(model, inputs, *arguments)
            self.seconds += time.monotonic() - started
            return loss

    torch.manual_seed(seed)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = TimedTrainer(
        model=get_peft_model(load_model(model_folder, dtype=torch.float32), lora),
        args=trl.SFTConfig(
            output_dir=tempfile.mkdtemp(prefix="peer-sft-"),
            packing=packing == "bfd",
            max_length=length,
            completion_only_loss=True,
            per_device_train_batch_size=MICRO_BATCH,
            gradient_accumulation_steps=max(1, rows // MICRO_BATCH),
            max_steps=steps,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=probe(model_folder, training=Training()).precision == "bf16",
            gradient_checkpointing=False,
            eval_packing=False,
            use_cpu=True,
            seed=seed,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=_dataset(data / "train.safetensors"),
        eval_dataset=_dataset(data / "validation.safetensors"),
        processing_class=load_tokenizer(model_folder),
    )
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    return {
        "tokensPerSecond": trainer.num_tokens / trainer.seconds,
        "peakGB": round(peak / 1e9, 2),
        "heldOutLoss": trainer.evaluate()["eval_loss"],
        "versions": {
            "trl": trl.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
    }


def _dataset(path: Path) -> Dataset:
    rows = TokenRows.load(path)
    return Dataset.from_list(
        [
            {"input_ids": ids.tolist(), "completion_mask": trained.astype(int).tolist()}
            for ids, trained in (rows.row(index) for index in range(len(rows)))
        ]
    )


if __name__ == "__main__":
    # At the end of the path: whatever the trainer environment has is taken from there.
    sys.path.append(sys.argv[3])
    measured = main(
        Path(sys.argv[1]),
        Path(sys.argv[2]),
        seed=int(sys.argv[4]),
        steps=int(sys.argv[5]),
        rows=int(sys.argv[6]),
        length=int(sys.argv[7]),
        packing=sys.argv[8],
    )
    print(json.dumps(measured))

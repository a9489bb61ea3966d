"""Training speed on one card: the loop of the train stage beside TRL's SFTTrainer.

`python card_throughput.py ROWS [--shape 1B]` runs where a CUDA device is, with torch, transformers,
PEFT and TRL, and without Ray: `tests/support`, `operator` and `trainer` are on its PYTHONPATH. ROWS
is the `train.safetensors` of a prepared job, whose rows of skewed lengths both sides train on.
Weights are random, in the shape of Llama 3.2 1B, and trained in fp32 under bf16 autocast by both.
Prints one JSON object a side. Tokens are those of the rows, padding not counted.
"""

import argparse
import gc
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"

import torch
import transformers
import trl
from datasets import Dataset
from peft import LoraConfig, get_peft_model

from gpu_runs import SHAPES, measure, write_base
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.devices import prefer_deterministic_kernels, use_tensor_cores
from tunesmith_trainer.models import load_model

STEPS = 9
WARM_UP = 4
ROWS_PER_STEP = 64
LENGTH = 2048
# Tokens of a forward pass are eight times the longest row, on both sides.
MICRO = 8
RATE = 2e-5
_PAD, _END = "<pad>", "<eos>"
OURS: dict[str, dict[str, Any]] = {
    "full, packed, compiled": {"method": "full", "compile": True},
    "full, packed": {"method": "full"},
    "lora, packed, compiled": {"lora": {"rank": 16}, "compile": True},
}
# Of TRL: packing, Liger's kernels, LoRA, lines of a forward pass.
PEERS: dict[str, tuple[bool, bool, bool, int]] = {
    "full, packed, liger": (True, True, False, 1),
    "full, packed": (True, False, False, 1),
    "full": (False, True, False, MICRO),
    "lora, packed, liger": (True, True, True, 1),
}


class TimedTrainer(trl.SFTTrainer):  # type: ignore[misc]
    """Keeps real tokens, seconds and loss of every optimizer step."""

    def __init__(self, *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.steps: list[dict[str, float]] = [{"tokens": 0, "started": time.monotonic()}]

    def training_step(self, model: Any, inputs: Any, *arguments: Any) -> Any:
        mask = inputs.get("attention_mask")
        # A packed batch has no padding, and no mask.
        self.steps[-1]["tokens"] += (
            int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
        )
        return super().training_step(model, inputs, *arguments)

    def log(self, logs: dict[str, float], *arguments: Any) -> None:
        """After every optimizer step."""
        if "loss" in logs:
            torch.accelerator.synchronize()
            now = time.monotonic()
            self.steps[-1] |= {"seconds": now - self.steps[-1]["started"], "loss": logs["loss"]}
            self.steps.append({"tokens": 0, "started": now})
        super().log(logs, *arguments)


def ours(name: str, base: Path, *, rows: TokenRows, shape: str, device: torch.device) -> Any:
    """The loop, packed."""
    training = {
        **OURS[name],
        "precision": "bf16",
        "optimizer": {"learningRate": RATE},
        "batch": {"size": ROWS_PER_STEP, "microBatchSize": MICRO},
        "maxSteps": STEPS,
        "evaluateEverySteps": STEPS,
    }
    measured = measure(
        base,
        shape=shape,
        name=name,
        training=training,
        rows=rows,
        folder=Path(tempfile.mkdtemp()),
        device=device,
        packing="bfd",
    )
    return measured.as_line()


def peer(name: str, base: Path, *, rows: TokenRows, device: torch.device) -> dict[str, Any]:
    """TRL, with as many tokens a step: packed, its lines are full, and rows are not."""
    packing, liger, lora, lines = PEERS[name]
    gc.collect()
    torch.accelerator.empty_cache()
    torch.accelerator.reset_peak_memory_stats(device)
    model = load_model(base, dtype=torch.float32)
    if lora:
        adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
        model = get_peft_model(model, adapters)
    tokens = int(rows.lengths.mean() * ROWS_PER_STEP)
    per_step = max(1, round(tokens / LENGTH)) if packing else ROWS_PER_STEP
    trainer = TimedTrainer(
        model=model,
        args=trl.SFTConfig(
            output_dir=tempfile.mkdtemp(),
            packing=packing,
            max_length=LENGTH,
            completion_only_loss=True,
            per_device_train_batch_size=lines,
            gradient_accumulation_steps=per_step // lines,
            gradient_checkpointing=False,
            max_steps=STEPS,
            learning_rate=RATE,
            weight_decay=0.01,
            max_grad_norm=1.0,
            bf16=True,
            use_liger_kernel=liger,
            dataloader_num_workers=0,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=_dataset(rows),
        processing_class=_tokenizer(),
    )
    trainer.train()
    steps = [step for step in trainer.steps if "loss" in step][WARM_UP:]
    return {
        "method": name,
        "tokens_per_second": statistics.median(step["tokens"] / step["seconds"] for step in steps),
        "tokens_per_step": statistics.median(step["tokens"] for step in steps),
        "peak_bytes": torch.accelerator.max_memory_allocated(device),
        "first_loss": trainer.steps[0]["loss"],
        "last_loss": steps[-1]["loss"],
        "attention": model.config._attn_implementation,  # noqa: SLF001 - it has no other name
    }


def _dataset(rows: TokenRows) -> Dataset:
    each = (rows.row(index) for index in range(len(rows)))
    return Dataset.from_list(
        [
            {"input_ids": ids.tolist(), "completion_mask": trained.astype(int).tolist()}
            for ids, trained in each
        ]
    )


def _tokenizer() -> Any:
    """Of no use to rows of token ids, but SFTTrainer asks for one, and its token to pad with."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    words = Tokenizer(WordLevel({_PAD: 0, _END: 1}, unk_token=_END))
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token=_PAD, eos_token=_END
    )


def main() -> None:
    """Every side in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    parser.add_argument("--shape", default="1B", choices=list(SHAPES))
    parser.add_argument("--sides", nargs="*", help="such as 'trl full'; all if none is given")
    arguments = parser.parse_args()
    device = torch.device("cuda", 0)
    prefer_deterministic_kernels()
    use_tensor_cores("bf16")
    base = write_base(Path(tempfile.mkdtemp()), shape=arguments.shape, device=device)
    rows = TokenRows.load(arguments.rows)
    versions = {
        "torch": torch.__version__,
        "trl": trl.__version__,
        "transformers": transformers.__version__,
    }
    print(
        json.dumps(
            {
                "card": torch.cuda.get_device_name(device),
                "versions": versions,
                "rows": len(rows),
                "meanLength": float(rows.lengths.mean()),
                "longest": int(rows.lengths.max()),
            }
        ),
        flush=True,
    )
    sides = [*(("tunesmith", name) for name in OURS), *(("trl", name) for name in PEERS)]
    for side, name in sides:
        if arguments.sides and f"{side} {name}" not in arguments.sides:
            continue
        if side == "tunesmith":
            measured = ours(name, base, rows=rows, shape=arguments.shape, device=device)
        else:
            torch.use_deterministic_algorithms(mode=False)
            measured = peer(name, base, rows=rows, device=device)
        print(json.dumps({"side": side, **measured}), flush=True)


if __name__ == "__main__":
    main()

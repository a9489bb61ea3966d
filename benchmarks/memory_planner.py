"""The peak memory of training beside its estimate, over shapes of models and ways to train them.

Each run is a process of its own, of a random model: what a worker of the train stage does, without
Ray's own processes. The peak is that of its resident memory (VmHWM).
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from commands import run_script

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.sources.model_facts import read_model_facts
from tunesmith_engine.stages.memory import Workload
from tunesmith_engine.stages.training_memory import worker_memory

SCRIPT = "memory_planner_run.py"
SHAPES: dict[str, dict[str, Any]] = {
    "15M": {
        "vocab_size": 8192,
        "hidden_size": 384,
        "intermediate_size": 1024,
        "num_hidden_layers": 8,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
    },
    "52M": {
        "vocab_size": 16384,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 12,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    # That of SmolLM2-135M.
    "135M": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "250M": {
        "vocab_size": 32768,
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
    },
}


class Run(NamedTuple):
    """Rows of a forward pass, tokens of each, and how they are trained."""

    shape: str
    rows: int
    length: int
    method: str
    precision: str
    checkpointing: str


RUNS: tuple[Run, ...] = (
    Run("15M", 4, 512, "lora", "fp32", "none"),
    Run("15M", 4, 512, "lora", "fp32", "all"),
    Run("15M", 4, 512, "full", "fp32", "every2"),
    Run("15M", 4, 512, "lora", "bf16", "none"),
    Run("15M", 4, 512, "full", "bf16", "none"),
    Run("52M", 2, 512, "lora", "fp32", "none"),
    Run("52M", 2, 512, "lora", "fp32", "every2"),
    Run("52M", 2, 256, "full", "fp32", "none"),
    Run("135M", 2, 512, "lora", "fp32", "none"),
    Run("135M", 2, 512, "lora", "bf16", "all"),
    Run("135M", 1, 512, "full", "fp32", "none"),
    Run("250M", 1, 512, "lora", "fp32", "none"),
    Run("250M", 1, 512, "full", "fp32", "all"),
    # What follows fitted nothing in the estimate.
    Run("52M", 4, 256, "full", "bf16", "every2"),
    Run("135M", 1, 512, "full", "bf16", "none"),
    Run("250M", 2, 256, "lora", "bf16", "none"),
)


def measure(home: Path) -> dict[str, Any]:
    """Measured and estimated bytes of each run, and the ratio."""
    results = [_measured(home, run) for run in RUNS]
    errors = sorted(abs(result["ratio"] - 1) for result in results)
    return {
        "runs": results,
        "medianError": round(errors[len(errors) // 2], 3),
        "largestError": round(errors[-1], 3),
    }


def _measured(home: Path, run: Run) -> dict[str, Any]:
    folder = home / f"random-{run.shape}"
    training = {
        "batch": {"size": run.rows, "microBatchSize": run.rows},
        "method": run.method,
        "precision": run.precision,
        "gradientCheckpointing": run.checkpointing,
    }
    shape = {**SHAPES[run.shape], "max_position_embeddings": 2048, "tie_word_embeddings": True}
    case = json.dumps({"shape": shape, "training": training, "length": run.length})
    if not (folder / "config.json").exists():
        run_script("trainer", SCRIPT, "make", folder, case)
    found = run_script("trainer", SCRIPT, "train", folder, case)
    estimated = _estimated(folder, training, length=run.length)
    return {
        **run._asdict(),
        "measuredBytes": found["peakBytes"],
        "estimatedBytes": estimated,
        "ratio": round(estimated / found["peakBytes"], 3),
        "cpuSeconds": found["cpuSeconds"],
    }


def _estimated(folder: Path, training: dict[str, Any], *, length: int) -> int:
    job = FineTuneJob.model_validate(
        {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "memory"},
            "spec": {
                "model": {"uri": folder.as_uri()},
                "dataset": {"train": {"uri": "file:///none.jsonl"}},
                "training": training,
                "output": {"model": "memory"},
            },
        }
    )
    # The last token of a row is only predicted.
    return worker_memory(Workload(job.spec, read_model_facts(folder), length - 1)).total

"""One training run of two steps in a process of its own, whose largest resident memory it prints.

Run by `memory_planner.py` in the trainer's environment: `make FOLDER CASE` writes a random model,
`train FOLDER CASE` trains it. The loop is the one that Ray's workers run, without Ray.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import resolve_config
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.history import HELD_OUT
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy

STEPS = 2


def main() -> None:
    """Do what the first argument says; the last one is the case as JSON."""
    command, folder, case = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
    if command == "make":
        _make(folder, case["shape"])
    else:
        print(json.dumps(_train(folder, case)))


def _make(folder: Path, shape: dict[str, Any]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**shape)).to(torch.bfloat16).save_pretrained(folder)
    print(json.dumps({"made": str(folder)}))


def _train(folder: Path, case: dict[str, Any]) -> dict[str, float]:
    length, batch = case["length"], case["training"]["batch"]
    job = FineTuneJob.model_validate(
        {
            "apiVersion": "tunesmith.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": "memory"},
            "spec": {
                "model": {"uri": f"file://{folder}"},
                "dataset": {"train": {"uri": "file:///none.jsonl"}},
                "training": {"maxSteps": STEPS, **case["training"]},
                "output": {"model": "memory"},
            },
        }
    )
    config = resolve_config(
        job.spec.with_defaults(),
        num_rows=batch["size"],
        precision=case["training"]["precision"],
        evaluation_cost=0.0,
    )
    import ray.train.torch  # noqa: F401 - as every worker does

    before = resident("VmHWM")
    model = build_trainable(folder, config=config, device=torch.device("cpu"))
    loaded = resident("VmHWM")
    group = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))
    rows = _rows(batch["size"], length=length, vocabulary=case["shape"]["vocab_size"])
    with tempfile.TemporaryDirectory() as checkpoints:
        loop = Loop(
            model,
            config=config,
            objective=CrossEntropy(rows, device=group.device),
            sampler=RowSampler(len(rows), batch_size=batch["size"], seed=0),
            measures={HELD_OUT: CrossEntropy(rows.subset([0]), device=group.device)},
            group=group,
            checkpoints=Checkpoints(Path(checkpoints), config_digest="none", keep=1),
            name_rows=lambda numbers: [str(number) for number in numbers],
        )
        started = time.process_time()
        loop.run()
        seconds = time.process_time() - started
    return {
        "librariesBytes": before,
        "loadedBytes": loaded,
        "peakBytes": resident("VmHWM"),
        "cpuSeconds": round(seconds, 2),
    }


def _rows(count: int, *, length: int, vocabulary: int) -> TokenRows:
    """Random rows of one length; the second half of each is trained, as answers are."""
    draw = np.random.default_rng(0)
    ids = draw.integers(1, vocabulary, size=(count, length))
    mask = [place >= length // 2 for place in range(length)]
    return TokenRows.of((row.tolist(), mask) for row in ids)


def resident(name: str) -> int:
    """Bytes that /proc/self/status tells under this name."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1]) << 10


if __name__ == "__main__":
    main()

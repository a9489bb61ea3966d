"""Two workers of one run over gloo, and one worker beside them: `python sharded_runs.py FOLDER`.

Leaves in FOLDER, for each of `RUNS`, `NAME-one/`, `NAME-two/` and `NAME-resumed/`: the curve as
`curve.json`, and `tuned/`. The last was cut off behind a checkpoint, and goes on from it.
"""

import json
import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.export import export_tuned
from tunesmith_trainer.train.history import History

CPU = torch.device("cpu")
BASE = "base"
CUT_OFF = 5

# Held-out rows make more passes on one worker than on the other.
_TRAINING: dict[str, Any] = {
    "parallelism": "fsdp",
    "precision": "fp32",
    "batch": {"size": 6, "microBatchSize": 2},
    "optimizer": {"learningRate": 1e-2, "maxGradNorm": 0.5},
    "maxSteps": 9,
    "evaluateEverySteps": 3,
}
RUNS: dict[str, dict[str, Any]] = {
    # One row of A is less than there are workers: one of them has none of it.
    "lora": {**_TRAINING, "lora": {"rank": 1}},
    "full": {**_TRAINING, "method": "full"},
    "frozen": {
        **_TRAINING,
        "method": "full",
        "freeze": {"layers": 1},
        "gradientCheckpointing": "all",
    },
    "bf16": {**_TRAINING, "precision": "bf16"},
    "full-bf16": {**_TRAINING, "method": "full", "precision": "bf16"},
}


# Not sharded: two workers, of which one is left. With no dropout, which is drawn anew.
ELASTIC: dict[str, Any] = {**_TRAINING, "parallelism": "ddp", "method": "full"}
ELASTIC_RESOURCES = {"workers": 2, "minWorkers": 1}


class CutOffError(Exception):
    """The run is over before its end."""


def main(folder: Path) -> None:
    """Fork into two workers, both with what is imported; the first one also trains alone."""
    small_model().save_pretrained(folder / BASE)
    child = os.fork()
    rank = 1 if child == 0 else 0
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    for name, training in RUNS.items():
        if rank == 0:
            run(folder, f"{name}-one", training=training, rank=0, size=1)
        run(folder, f"{name}-two", training=training, rank=rank, size=2)
        run(folder, f"{name}-resumed", training=training, rank=rank, size=2, cut_off=CUT_OFF)
        run(folder, f"{name}-resumed", training=training, rank=rank, size=2)
    elastic = partial(run, folder, training=ELASTIC, resources=ELASTIC_RESOURCES, rank=rank)
    elastic("elastic-fewer", size=2, cut_off=CUT_OFF)
    if rank == 0:
        elastic("elastic-fewer", size=1)
        elastic("elastic-one", size=1)
        elastic("elastic-more", size=1, cut_off=CUT_OFF)
    distributed.barrier()
    elastic("elastic-more", size=2)
    distributed.destroy_process_group()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)


def run(
    root: Path,
    name: str,
    *,
    training: Any,
    rank: int,
    size: int,
    cut_off: int | None = None,
    resources: dict[str, int] | None = None,
) -> None:
    """One worker's part of one run."""
    config = a_train_config(
        training=training,
        resources=resources or {"workers": size},
        # Some of the runs write while they train.
        checkpoint={"everySteps": 4, "asynchronous": name.startswith("full")},
    )
    group = WorkerGroup(rank=rank, size=size, device=CPU)
    group = replace(group, is_sharded=config.is_sharded)
    model = build_trainable(root / BASE, config=config, device=CPU)

    def on_step(history: History, *, epoch: float) -> None:
        if history.step == cut_off:
            raise CutOffError

    output = root / name
    loop = a_loop(model, config=config, folder=output / "checkpoints", group=group, on_step=on_step)
    try:
        history = loop.run()
    except CutOffError:
        return
    loop.load_best()
    export_tuned(model, base=root / BASE, base_uri="hf://org/base", output=output, group=group)
    if rank == 0:
        told = {"resumedFrom": loop.resumed_from, "points": losses(history)}
        (output / "curve.json").write_text(json.dumps(told))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))

"""One run of `divergence`, in the trainer's environment; prints JSON.

The rules are only noted, so that the curve shows what would have come of a run that they end.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tunesmith_api.finetunejob.training import Batch, Optimizer, Training
from tunesmith_api.finetunejob.training import Checkpoint as CheckpointSettings
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train import loop
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.history import HELD_OUT, TRAIN_SAMPLE, History
from tunesmith_trainer.train.measures import sample_of
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy

ALONE = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))
RULES = ("refuse_exploded_measures", "refuse_exploded_training")
# Tokens of a row: most are shorter, and a step takes a second.
LONGEST = 64
BATCH = 2


def main(model_folder: Path, data: Path, config: TrainConfig) -> dict[str, Any]:
    """The losses, and the first step that a rule would have ended the run at."""
    verdicts: list[int] = []
    histories: list[History] = []
    with tempfile.TemporaryDirectory() as folder:
        run = _loop(model_folder, data, config=config, folder=Path(folder), seen=histories)
        noted: dict[str, Any] = {rule: _noting(getattr(loop, rule), verdicts) for rule in RULES}
        with patch.multiple(loop, **noted):
            try:
                run.run()
            except VerdictError:  # no longer a number
                verdicts.append(histories[-1].step + 1)
    points = histories[-1].points
    return {
        "stoppedAt": verdicts[0] if verdicts else None,
        "losses": {
            kind: [
                [point["step"], round(float(str(point["loss"])), 2)]
                for point in points
                if point["kind"] == kind
            ]
            for kind in ("train", HELD_OUT, TRAIN_SAMPLE)
        },
    }


def _noting(rule: Callable[..., None], verdicts: list[int]) -> Callable[..., None]:
    def note(history: History, **given: Any) -> None:
        try:
            rule(history, **given)
        except VerdictError:
            verdicts.append(history.step)

    return note


def _loop(
    model_folder: Path, data: Path, *, config: TrainConfig, folder: Path, seen: list[History]
) -> loop.Loop:
    train, held_out = (
        _short(TokenRows.load(data / f"{split}.safetensors")) for split in ("train", "validation")
    )
    sample = sample_of(train, num_targets=held_out.num_targets)
    return loop.Loop(
        build_trainable(model_folder, config=config, device=ALONE.device),
        config=config,
        objective=CrossEntropy(train, device=ALONE.device),
        sampler=RowSampler(len(train), batch_size=BATCH, seed=config.training.seed),
        measures={
            kind: CrossEntropy(rows, device=ALONE.device)
            for kind, rows in ((HELD_OUT, held_out), (TRAIN_SAMPLE, sample))
        },
        group=ALONE,
        checkpoints=Checkpoints(folder, config_digest="benchmark", keep=1),
        name_rows=lambda rows: [str(row) for row in rows],
        on_step=lambda history, **_: seen.append(history),
    )


def _short(rows: TokenRows) -> TokenRows:
    listed = (rows.row(number) for number in range(len(rows)))
    return TokenRows.of(
        (ids.tolist(), mask.tolist()) for ids, mask in listed if len(ids) <= LONGEST
    )


def _config(method: Any, *, rate: float, seed: int, steps: int) -> TrainConfig:
    training = Training(
        method=method,
        batch=Batch(size=BATCH, micro_batch_size=BATCH),
        optimizer=Optimizer(learning_rate=rate),
        max_steps=steps,
        seed=seed,
    )
    return TrainConfig(
        training=training.with_defaults(),
        checkpoint=CheckpointSettings(),
        workers=1,
        min_workers=None,
        precision="fp32",
        packing="none",
        micro_batch_size=BATCH,
        gradient_checkpointing="none",
        replay_ratio=0.0,
        num_steps=steps,
        warmup_steps=2,
        evaluate_every=4,
        checkpoint_every=steps,
        asynchronous_checkpoints=False,
        attack=None,
    )


if __name__ == "__main__":
    model_folder, data, method, rate, seed, steps = sys.argv[1:]
    config = _config(method, rate=float(rate), seed=int(seed), steps=int(steps))
    print(json.dumps(main(Path(model_folder), Path(data), config)))

"""One run of `adapter_precision`, in the trainer's environment; prints JSON."""

import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from tunesmith_api.finetunejob.training import Batch, Training
from tunesmith_api.finetunejob.training import Checkpoint as CheckpointSettings
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train import adapters
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.history import HELD_OUT
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy

ALONE = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))


def main(model_folder: Path, data: Path, arm: str, seed: int, steps: int) -> dict[str, Any]:
    """Train, then score the weights in fp32 as well."""
    config = _config("fp32" if arm == "fp32" else "bf16", seed=seed, steps=steps)
    as_peft = patch.object(adapters, "keep_updates_in_fp32")
    with as_peft if arm == "bf16" else nullcontext():
        model = adapters.build_trainable(model_folder, config=config, device=ALONE.device)
    history = _run(model, config=config, data=data)
    points = [point["loss"] for point in history.points if point["kind"] == HELD_OUT]
    exact = _config("fp32", seed=seed, steps=steps)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    scored = adapters.build_trainable(model_folder, config=exact, device=ALONE.device).eval()
    with torch.no_grad():
        for name, weight in scored.named_parameters():
            if name in trained:
                weight.copy_(trained[name])
        rows = CrossEntropy(TokenRows.load(data / "validation.safetensors"), device=ALONE.device)
        numbers = list(range(len(rows.lengths)))
        losses = [float(rows.summed_loss(scored, [row])) for row in numbers]
        with scored.disable_adapter():
            before = [float(rows.summed_loss(scored, [row])) for row in numbers]
    num_targets = rows.num_units(numbers)
    return {
        "tokensPerSecond": history.tokens / history.seconds,
        "before": sum(before) / num_targets,
        "lossReported": points[-1],
        "lossInFp32": sum(losses) / num_targets,
    }


def _run(model: Any, *, config: TrainConfig, data: Path) -> Any:
    train = TokenRows.load(data / "train.safetensors")
    held_out = TokenRows.load(data / "validation.safetensors")
    training = config.training
    with tempfile.TemporaryDirectory() as folder:
        return Loop(
            model,
            config=config,
            objective=CrossEntropy(train, device=ALONE.device),
            sampler=RowSampler(len(train), batch_size=training.batch.size, seed=training.seed),
            measures={HELD_OUT: CrossEntropy(held_out, device=ALONE.device)},
            group=ALONE,
            checkpoints=Checkpoints(Path(folder), config_digest="benchmark", keep=1),
            name_rows=lambda rows: [str(row) for row in rows],
        ).run()


def _config(precision: Any, *, seed: int, steps: int) -> TrainConfig:
    training = Training(batch=Batch(size=8, micro_batch_size=8), max_steps=steps, seed=seed)
    return TrainConfig(
        training=training.with_defaults(),
        checkpoint=CheckpointSettings(),
        workers=1,
        min_workers=None,
        precision=precision,
        packing="none",
        micro_batch_size=8,
        gradient_checkpointing="none",
        replay_ratio=0.0,
        num_steps=steps,
        warmup_steps=1,
        evaluate_every=steps,
        checkpoint_every=steps,
        asynchronous_checkpoints=False,
        attack=None,
    )


if __name__ == "__main__":
    model_folder, data, arm, seed, steps = sys.argv[1:]
    print(json.dumps(main(Path(model_folder), Path(data), arm, int(seed), int(steps))))

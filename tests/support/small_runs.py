"""Training runs of a second: random rows, a model of a few thousand weights, and the loop."""

import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from command import wait_until
from manifests import a_job
from small_models import SMALL_VOCABULARY
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig, resolve_config
from tunesmith_trainer.train.dataloader import RowSampler
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.history import GENERAL, HELD_OUT, TRAIN_SAMPLE, History
from tunesmith_trainer.train.leaving import is_told_to_leave, leave
from tunesmith_trainer.train.loop import Loop, StepCallback
from tunesmith_trainer.train.measures import sample_of
from tunesmith_trainer.train.objectives.cross_entropy import CrossEntropy
from tunesmith_trainer.train.packing import bin_capacity, end_to_end, one_per_line

ALONE = WorkerGroup(rank=0, size=1, device=torch.device("cpu"))


def random_rows(num_rows: int, *, seed: int = 0) -> TokenRows:
    """Rows of 5 to 30 tokens; a random prompt is not trained, and some rows end untrained."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 31, size=num_rows)
    trained = [_mask(int(length), generator=generator) for length in lengths]
    return TokenRows(
        input_ids=generator.integers(1, SMALL_VOCABULARY, size=int(lengths.sum())).astype(np.int32),
        trained=np.concatenate(trained),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
    )


def _mask(length: int, *, generator: np.random.Generator) -> Any:
    trained = np.zeros(length, dtype=np.bool_)
    first = int(generator.integers(1, length - 2))
    trained[first : length - int(generator.integers(0, 2))] = True
    return trained


def a_train_config(*, num_rows: int = 24, evaluation_cost: float = 0.0, **spec: Any) -> TrainConfig:
    """The configuration of a job with these top-level fields of its spec."""
    job = FineTuneJob.model_validate(a_job(**spec))
    return resolve_config(
        job.spec.with_defaults(),
        num_rows=num_rows,
        precision="fp32",
        evaluation_cost=evaluation_cost,
    )


def a_loop(
    model: Any,
    *,
    config: TrainConfig,
    folder: Path,
    on_step: StepCallback | None = None,
    on_measuring: Callable[[History, float], None] | None = None,
    last_step: int | None = None,
    group: WorkerGroup = ALONE,
    fence: Fence | None = None,
) -> Loop:
    """A run, of one worker if no other `group` is given, on 24 random rows, with 6 held out."""
    training = config.training
    rows = random_rows(24)
    measures = {
        HELD_OUT: random_rows(6, seed=1),
        TRAIN_SAMPLE: sample_of(rows, num_targets=80),
        GENERAL: random_rows(5, seed=2),
    }
    capacity = bin_capacity(rows.lengths, size=config.micro_batch_size)
    lay_out = partial(end_to_end, max_tokens=capacity) if config.packing == "bfd" else one_per_line
    return Loop(
        model,
        config=config,
        objective=CrossEntropy(
            rows,
            device=group.device,
            lay_out=lay_out,
            regularization=training.regularization,
        ),
        sampler=RowSampler(24, batch_size=training.batch.size, seed=training.seed),
        measures={
            kind: CrossEntropy(tokens, device=group.device, lay_out=lay_out)
            for kind, tokens in measures.items()
        },
        group=group,
        checkpoints=Checkpoints(
            folder, config_digest=config.digest(), keep=config.checkpoint.keep, fence=fence
        ),
        name_rows=lambda numbers: [f"rows.jsonl:{number}" for number in numbers],
        on_step=on_step,
        on_measuring=on_measuring,
        last_step=last_step,
    )


def tell_to_leave(folder: Path) -> None:
    """Have this very process leave, and do not wait for it."""
    threading.Thread(target=leave, args=(folder,), daemon=True).start()
    wait_until(is_told_to_leave, what="the notice", timeout_s=30)


def losses(history: History) -> list[Any]:
    """The curve without what depends on the clock."""
    timed = {"seconds", "tokensPerSecond", "residentBytes"}
    return [
        {key: value for key, value in point.items() if key not in timed} for point in history.points
    ]

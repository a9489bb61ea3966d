"""The control: the first steps once more, from the same seed over the same rows, without remedies.

What a remedy has changed is only to be seen beside a run that is the same in all else. `worker`
trains it after the run itself, whose weights are written by then; nothing of it is kept but its
losses, row by row, for `remedies` to compare.
"""

import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Final

from tunesmith_engine.stages.configmap_reporter import reporter_of
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.remote_workspace import StageWorkspace
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.config import TrainConfig
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.history import History
from tunesmith_trainer.train.leaving import Left
from tunesmith_trainer.train.progress import ProgressReporter
from tunesmith_trainer.train.remedies import without_remedies
from tunesmith_trainer.train.run_parts import build_loop, run_parts
from tunesmith_trainer.train.worker_workspace import remote_checkpoints

_FOLDER: Final = "control"

log = logging.getLogger(__name__)


def train_control(
    request: StageRequest,
    prepared: Prepared,
    *,
    config: TrainConfig,
    last_step: int,
    group: WorkerGroup,
    fence: Fence,
    workspace: StageWorkspace | None = None,
) -> History:
    """Train without the remedies of the job; `last_step` is the last of the run itself.

    `fence` is that of the run, `workspace` that of workers that share no folder. One that diverges
    is no fault of the job's; its history then ends before its last step.

    Raises:
        BadInputError: the job has no remedy.
        Left: a worker's pod is about to be taken away; the job goes on from `last_step`.
    """
    spec = without_remedies(request.spec)
    given, planned = config.training.control, config.num_steps
    steps = min(given.steps, last_step) if given else last_step
    # The rates, the warm-up and the precision of the run itself; evaluated once, at its end.
    ratio = spec.dataset.replay.ratio if spec.dataset.replay else 0.0
    control = replace(config, training=spec.training, evaluate_every=steps, replay_ratio=ratio)
    output = Path(request.output) / _FOLDER
    remote = remote_checkpoints(workspace, folder=output, fence=fence)
    if remote is not None and group.is_first:
        remote.begin()
    progress = ProgressReporter(
        reporter_of(request),
        total_steps=planned + steps,
        curve=output / "curve.jsonl",
        message="training without the remedies",
        steps_before=planned,
    )
    model = build_trainable(prepared.model, config=control, device=group.device)
    parts = run_parts(
        model,
        request=request.model_copy(update={"spec": spec}),
        prepared=prepared,
        config=control,
        group=group,
    )
    loop = build_loop(
        model,
        parts,
        prepared=prepared,
        config=control,
        group=group,
        checkpoints=output,
        remote=remote,
        fence=fence,
        on_step=progress if group.is_first else None,
        on_measuring=progress.measuring if group.is_first else None,
        last_step=steps,
    )
    try:
        history = loop.run()
    except Left as left:
        # Of its own steps nobody else knows.
        raise Left(last_step) from left
    except VerdictError as error:
        log.warning("the control run ended: %s", error.message)
        history = History()
    if group.is_first:
        # Nobody trains on from it. A stage that is killed behind this trains it once more.
        shutil.rmtree(output, ignore_errors=True)
        if remote is not None:
            remote.keep()
    return history

"""The job's object store, as a worker uses it whose disk no other worker shares.

`stage` reads there how far the run is; each `worker` fetches what earlier stages made, and the
first one leaves what training makes.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.remote_workspace import StageWorkspace, as_stage_errors
from tunesmith_trainer.train.checkpoints import newest_step, step_of
from tunesmith_trainer.train.fencing import Fence
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints

log = logging.getLogger(__name__)


def open_workspace(
    request: StageRequest, *, tell: Callable[[str], object] = log.info
) -> StageWorkspace | None:
    """The store, if the workers are apart.

    Raises:
        StageError: it cannot be opened.
    """
    if not request.apart or request.store is None:
        return None
    with as_stage_errors():
        workspace = StageWorkspace.opened(request.store, request, tell)
    # NB: a place of this process. Workers of a lost head may come to their end as well.
    return replace(workspace, own=f"{workspace.own}-{uuid4().hex[:8]}")


def fetched(request: StageRequest, workspace: StageWorkspace | None) -> StageRequest:
    """The request with its inputs on this disk, and an output folder.

    Raises:
        StageError: they cannot be fetched.
    """
    if workspace is None:
        return request
    Path(request.output).mkdir(parents=True, exist_ok=True)
    with as_stage_errors():
        return workspace.fetched_inputs()


def remote_checkpoints(
    workspace: StageWorkspace | None, *, folder: Path, fence: Fence
) -> RemoteCheckpoints | None:
    """The store's side of the checkpoints that lie in `folder` of the stage's output."""
    if workspace is None:
        return None
    place = f"{workspace.home}/{folder.name}"
    return RemoteCheckpoints(workspace.store, place=place, folder=folder, fence=fence)


def newest_kept_step(request: StageRequest) -> int:
    """The step that the run would go on from, 0 if there is none.

    Raises:
        StageError: the store cannot be read.
    """
    workspace = open_workspace(request)
    if workspace is None:
        return newest_step(Path(request.output))
    with as_stage_errors():
        names = workspace.store.list_snapshots(workspace.checkpoints_place)
    return max((step_of(name) or 0 for name in names), default=0)

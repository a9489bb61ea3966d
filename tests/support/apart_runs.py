"""Runs of two workers that share no folder: `python apart_runs.py FOLDER RUN[,RUN...]...`.

Each argument is two new processes, which run one after the other. A RUN is the name of request
files in FOLDER, alone or with `:step=N` or `:upload=N`: at that step, or between the upload of that
step's checkpoint and what makes it count, the first worker is killed. Leaves `FOLDER/RUN.json`,
what the first worker hands back, and `FOLDER/exits.json`, how both ended.
"""

import json
import os
import signal
import sys
import traceback
from pathlib import Path

import torch
from torch import distributed

from tunesmith_engine.sources.version_manifest import VersionManifest
from tunesmith_engine.sources.workspace_store import WorkspaceStore
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.train.collectives import WorkerGroup
from tunesmith_trainer.train.loop import Loop
from tunesmith_trainer.train.worker import train_share


def main(folder: Path, pairs: list[str]) -> None:
    """Fork each pair with what is imported; nothing of ours has begun a thread by then."""
    exits = []
    for pair in pairs:
        workers = [_forked(rank, folder, pair.split(",")) for rank in range(2)]
        ends = (os.waitpid(worker, 0)[1] for worker in workers)
        exits.append([os.waitstatus_to_exitcode(end) for end in ends])
    (folder / "exits.json").write_text(json.dumps(exits))


def _forked(rank: int, folder: Path, runs: list[str]) -> int:
    worker = os.fork()
    if worker:
        return worker
    try:
        _work(rank, folder, runs)
    except BaseException:  # noqa: BLE001 - the worker of a neighbour that was killed
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _work(rank: int, folder: Path, runs: list[str]) -> None:
    # The one file in common: how gloo's sockets meet, as Ray's head tells them in a cluster.
    meeting = f"file://{folder}/rendezvous-{runs[0]}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    group = WorkerGroup(rank=rank, size=2, device=torch.device("cpu"))
    for run in runs:
        name, _, death = run.partition(":")
        if death and rank == 0:
            _die(*death.split("="))
        text = (folder / f"{name}-{rank}.request").read_text()
        request = StageRequest.model_validate_json(text)
        trained = train_share(request, group=group, probed="fp32", is_first_here=False)
        if rank == 0:
            (folder / f"{name}.json").write_text(json.dumps(trained))
    distributed.destroy_process_group()


def _die(where: str, step: str) -> None:
    really_step, really_finish = Loop._do_step, WorkspaceStore.finish_snapshot

    def do_step(loop: Loop, number: int) -> bool:
        if where == "step" and number == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
        return really_step(loop, number)

    def finish(store: WorkspaceStore, place: str, manifest: VersionManifest) -> None:
        if where == "upload" and place.endswith(f"/step-{step}"):
            os.kill(os.getpid(), signal.SIGKILL)
        really_finish(store, place, manifest)

    # By name, since the checker would have the parameters named as theirs.
    for owner, name, replaced in (
        (Loop, "_do_step", do_step),
        (WorkspaceStore, "finish_snapshot", finish),
    ):
        setattr(owner, name, replaced)


if __name__ == "__main__":
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), sys.argv[2:])

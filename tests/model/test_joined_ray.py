"""Training in a cluster of Ray that was there before, as within a RayJob: a node per worker."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from command import wait_until
from ray_cluster import WORKERS, a_ray_cluster, lose_node, tell_to_leave
from small_models import make_tiny_model
from small_runs import random_rows
from train_stage import TrainStage, a_train_stage
from tunesmith_trainer.train.checkpoints import newest_step

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(600)]

SPEC: dict[str, Any] = {
    "training": {
        "maxSteps": 20,
        "evaluateEverySteps": 10,
        "batch": {"size": 8, "microBatchSize": 2},
        "optimizer": {"learningRate": 1e-2},
    },
    "checkpoint": {"everySteps": 10},
    "resources": {"workers": 2},
}


def test_two_workers_on_nodes_of_their_own_have_the_curve_of_two_on_one_machine(
    tmp_path: Path,
) -> None:
    here, there = _stage(tmp_path / "here"), _stage(tmp_path / "there")
    with a_ray_cluster(there.folder) as cluster:
        job = cluster.submit(*there.command)
        ended = cluster.wait(job, timeout_s=300)
        logs = cluster.logs(job)
    assert ended == "SUCCEEDED", logs[-4000:]
    assert here.run().outcome == "Succeeded", here.log()[-4000:]

    assert there.result.facts["bestHeldOutLoss"] == pytest.approx(
        here.result.facts["bestHeldOutLoss"], rel=1e-6
    )
    assert [point["step"] for point in there.curve()] == [point["step"] for point in here.curve()]
    assert not (there.output / ".ray-train").exists()


def test_with_fewer_workers_it_goes_on_when_a_node_is_lost(tmp_path: Path) -> None:
    training = {**SPEC["training"], "maxSteps": 120, "precision": "fp32"}
    checkpoint = {"everySteps": 10, "asynchronous": True}
    elastic = {"workers": 2, "minWorkers": 1}
    spec = {"training": training, "checkpoint": checkpoint}
    alone = _stage(tmp_path / "alone", **spec, resources={"workers": 1})
    stage = _stage(tmp_path / "elastic", **spec, resources=elastic)
    with a_ray_cluster(stage.folder) as cluster:
        job = cluster.submit(*stage.command)
        wait_until(lambda: bool(stage.checkpoints), what="a checkpoint", timeout_s=200)
        lose_node(stage.folder, address=WORKERS[1])
        ended = cluster.wait(job, timeout_s=300)
        logs = cluster.logs(job)
    assert ended == "SUCCEEDED", logs[-4000:]
    assert alone.run().outcome == "Succeeded", alone.log()[-4000:]

    assert stage.result.resumed_from_step
    # Padding is another matter: one worker lays the same rows out in other micro batches.
    told: list[Any] = [run.result.facts["tokens"] for run in (stage, alone)]
    assert [tokens | {"padding": 0} for tokens in told] == [told[1] | {"padding": 0}] * 2
    assert stage.result.facts["bestHeldOutLoss"] == pytest.approx(
        alone.result.facts["bestHeldOutLoss"], rel=1e-4
    )


def test_told_to_leave_it_keeps_its_step_and_a_next_start_goes_on(tmp_path: Path) -> None:
    training = {**SPEC["training"], "maxSteps": 400, "evaluateEverySteps": 40, "precision": "fp32"}
    spec = {"training": training, "checkpoint": {"everySteps": 1000}}
    here, there = (_stage(tmp_path / name, **spec) for name in ("here", "there"))
    with a_ray_cluster(there.folder) as cluster:
        job = cluster.submit(*there.command)
        wait_until(lambda: bool(there.checkpoints), what="a checkpoint", timeout_s=200)
        tell_to_leave(there.folder)
        ended = cluster.wait(job, timeout_s=60)
        kept = newest_step(there.output)
        shutil.rmtree(there.folder / "leaving")
        job = cluster.submit(*there.command)
        again = cluster.wait(job, timeout_s=300)
        logs = cluster.logs(job)
    assert (ended, again) == ("FAILED", "SUCCEEDED"), logs[-4000:]
    assert here.run().outcome == "Succeeded", here.log()[-4000:]

    assert there.result.resumed_from_step == kept
    assert there.result.facts["bestHeldOutLoss"] == pytest.approx(
        here.result.facts["bestHeldOutLoss"], rel=1e-6
    )


def _stage(folder: Path, **spec: Any) -> TrainStage:
    folder.mkdir()
    model = make_tiny_model(folder / "model")
    return a_train_stage(
        folder,
        model=model,
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        **{**SPEC, **spec},
    )

"""The train stage as a process, with a real Ray: equal curves, exact resumption, nothing left."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from command import processes_of, wait_until
from object_store import object_store
from small_models import make_tiny_model
from small_runs import random_rows
from small_sources import BUCKET, KEYS, write_secret
from train_stage import TrainStage, a_train_stage
from tunesmith_engine.local.processes import STOP_GRACE_S

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

# So many that a run which is told to stop after a checkpoint has some left on any machine.
NUM_STEPS = 240
SPEC: dict[str, Any] = {
    "training": {
        # Not auto, which measures: under load one run could take another than the next.
        "precision": "fp32",
        "maxSteps": NUM_STEPS,
        "evaluateEverySteps": 20,
        "batch": {"size": 8, "microBatchSize": 2},
        "packing": "bfd",
        "lora": {"dropout": 0.1},
        "optimizer": {"learningRate": 1e-2},
    },
    "checkpoint": {"everySteps": 10},
}
GONE_WITHIN_S = 90.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path) -> TrainStage:
    """One worker, from the first step to the last."""
    stage = _stage(tmp_path_factory.mktemp("undisturbed"), model=model)
    assert stage.run().outcome == "Succeeded", stage.log()[-4000:]
    return stage


def test_it_trains_every_planned_step_and_leaves_no_process(undisturbed: TrainStage) -> None:
    result = undisturbed.result

    assert result.facts["numSteps"] == NUM_STEPS
    assert result.resumed_from_step is None
    packing: Any = result.facts["packing"]
    resolved: Any = result.facts["resolved"]
    assert packing["packing"] == resolved["training.packing"] == "bfd"
    assert packing["paddingShare"] < packing["paddingShareUnpacked"]
    assert packing["proof"]["holds"]
    assert {artifact.name for artifact in result.artifacts} == {"tuned", "curve"}
    assert [point["step"] for point in undisturbed.curve() if point["kind"] == "heldOut"] == [
        *range(0, NUM_STEPS + 1, 20)
    ]
    assert processes_of(undisturbed.folder) == []


def test_progress_is_told_while_it_runs(undisturbed: TrainStage) -> None:
    text = (undisturbed.folder / "progress.json").read_text()

    assert f'"step":{NUM_STEPS}' in text
    assert f'"totalSteps":{NUM_STEPS}' in text
    assert '"heldOutLoss"' in text


# Sharded and separate workers are held to one worker every day.
@pytest.mark.long
def test_two_workers_have_the_curve_of_one(
    undisturbed: TrainStage, model: Path, tmp_path: Path
) -> None:
    """Without dropout, which is drawn anew on each worker, and without bf16's coarse sums."""
    training = {**SPEC["training"], "maxSteps": 20, "lora": {}}
    spec = {**SPEC, "training": training}
    curves = []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        stage = _stage(folder, model=model, spec={**spec, "resources": {"workers": workers}})
        assert stage.run().outcome == "Succeeded", stage.log()[-4000:]
        curves.append(stage.curve())

    for one, two in zip(*curves, strict=True):
        assert two.pop("kind") == one.pop("kind")
        assert two == pytest.approx(one, rel=1e-3)


def test_killed_then_stopped_then_run_again_it_has_the_same_curve_to_the_last_bit(
    undisturbed: TrainStage, model: Path, tmp_path: Path
) -> None:
    """Stopped, it keeps the step at hand, within the grace that pods and laptops give."""
    stage = _stage(tmp_path, model=model)
    codes = []
    for number in (signal.SIGKILL, signal.SIGTERM):
        with stage.started() as process:
            _wait_for_checkpoint(stage, after=_newest_step(stage))
            process.send_signal(number)
            codes.append(process.wait(timeout=STOP_GRACE_S))
        if number == signal.SIGKILL:
            ray_folder = Path((stage.output / ".ray").read_text())
        _wait_until_gone(tmp_path)
    kept = _newest_step(stage)
    assert codes == [-signal.SIGKILL, 128 + signal.SIGTERM]
    # Not every step is told.
    assert _told_step(stage) <= kept < NUM_STEPS
    assert not (tmp_path / "result.json").exists()

    result = stage.run()

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    assert result.resumed_from_step == kept
    assert stage.curve() == undisturbed.curve()
    assert _digests(stage)["tuned"] == _digests(undisturbed)["tuned"]
    assert not ray_folder.exists()


@pytest.mark.long
def test_on_another_disk_it_goes_on_from_the_checkpoint_in_the_object_store(
    undisturbed: TrainStage, model: Path, tmp_path: Path
) -> None:
    secret = {"name": "bucket"}
    stored = {
        "workspace": {"uri": f"s3://{BUCKET}/work", "secretRef": secret},
        "output": {"model": "helpdesk", "uri": f"s3://{BUCKET}/models", "secretRef": secret},
    }
    stages = []
    with object_store(tmp_path / "store.log") as endpoint:
        for name in ("first", "second"):
            write_secret(tmp_path / name / "secrets/bucket", {**KEYS, "AWS_ENDPOINT_URL": endpoint})
            store = f"s3://{BUCKET}/work/ns-job-uid"
            stages.append(
                _stage(tmp_path / name, model=model, spec={**SPEC, **stored}, store=store)
            )
        first, second = stages
        with first.started() as process:
            _wait_for_checkpoint(first, after=0)
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        result = second.run()

    assert result.outcome == "Succeeded", second.log()[-4000:]
    assert result.resumed_from_step is not None
    assert second.curve() == undisturbed.curve()
    assert _digests(second)["tuned"] == _digests(undisturbed)["tuned"]
    assert result.artifact("tuned").uri == f"{store}/train/{'0' * 16}/1/tuned"


def test_a_lost_worker_is_replaced_and_the_curve_is_the_same(
    undisturbed: TrainStage, model: Path, tmp_path: Path
) -> None:
    stage = _stage(tmp_path, model=model)
    with stage.started() as process:
        _wait_for_checkpoint(stage, after=0)
        for pid in _workers(tmp_path):
            os.kill(pid, signal.SIGKILL)
        process.wait(timeout=300)

    assert stage.result.outcome == "Succeeded", stage.log()[-4000:]
    assert stage.curve() == undisturbed.curve()
    assert processes_of(tmp_path) == []


def test_targets_that_the_model_lacks_are_bad_input(model: Path, tmp_path: Path) -> None:
    spec = {"training": {"maxSteps": 1, "lora": {"targetModules": ["query"]}}}
    stage = _stage(tmp_path, model=model, spec=spec)

    result = stage.run()

    assert result.bad_input
    assert "no linear module query" in result.message


def _stage(
    folder: Path, *, model: Path, spec: dict[str, Any] = SPEC, store: str | None = None
) -> TrainStage:
    return a_train_stage(
        folder,
        model=model,
        store=store,
        train=random_rows(24),
        validation=random_rows(6, seed=1),
        **spec,
    )


def _wait_for_checkpoint(stage: TrainStage, *, after: int) -> None:
    wait_until(lambda: _newest_step(stage) > after, what="a checkpoint", timeout_s=200)


def _wait_until_gone(folder: Path) -> None:
    """Ray's workers notice within seconds that its daemons are gone."""
    wait_until(lambda: processes_of(folder) == [], what="Ray to go", timeout_s=GONE_WITHIN_S)


def _newest_step(stage: TrainStage) -> int:
    return max((int(path.name.removeprefix("step-")) for path in stage.checkpoints), default=0)


def _told_step(stage: TrainStage) -> int:
    step: int = json.loads((stage.folder / "progress.json").read_text())["step"]
    return step


def _workers(folder: Path) -> list[int]:
    """The training workers; Ray names a worker after the actor that it runs."""
    return [
        pid
        for pid in processes_of(folder)
        if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def _digests(stage: TrainStage) -> dict[str, str]:
    return {artifact.name: artifact.digest for artifact in stage.result.artifacts}


def test_early_stopping_and_a_control_run_end_with_what_they_showed(
    model: Path, tmp_path: Path
) -> None:
    """Random rows: there is nothing to learn of them, so the held-out loss soon rises."""
    training = {
        **SPEC["training"],
        "evaluateEverySteps": 4,
        "regularization": {
            "labelSmoothing": 0.1,
            "neftuneNoiseAlpha": 5.0,
            "attentionDropout": 0.1,
            "embeddingDropout": 0.1,
        },
        "earlyStopping": {"patience": 3},
        "control": {"steps": 8},
    }
    stage = _stage(tmp_path, model=model, spec={**SPEC, "training": training})

    result = stage.run()

    assert result.outcome == "Succeeded", stage.log()[-4000:]
    facts: dict[str, Any] = result.facts
    steps = facts["numSteps"]
    assert facts["stoppedEarly"] is True
    assert f"stopped early at step {steps} of {NUM_STEPS}" in result.message
    kinds = {point["kind"] for point in stage.curve()}
    assert kinds == {"train", "heldOut", "trainSample", "general"}
    remedies = {row["remedy"]: row for row in facts["remedies"]}
    assert len(remedies) == 7
    assert remedies["training.earlyStopping"]["cost"] == {"stepsSaved": NUM_STEPS - steps}
    control = facts["control"]
    assert control["steps"] == 8
    assert len(control["without"]) == 6
    assert control["differences"]["gap"]["low"] < control["differences"]["gap"]["high"]

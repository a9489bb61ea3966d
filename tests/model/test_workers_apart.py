"""Two workers, each on a disk of its own, with nothing in common but an object store."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from safetensors.torch import load

import apart_runs
from manifests import a_job
from object_store import object_store
from small_models import make_tiny_model
from small_runs import random_rows
from small_sources import BUCKET, KEYS, write_secret
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.results import Artifact
from tunesmith_engine.stages.catalog import PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import TransientError
from tunesmith_trainer.train.fencing import FencedError, fence_of
from tunesmith_trainer.train.remote_checkpoints import RemoteCheckpoints
from tunesmith_trainer.train.starts import MAX_STARTS, count_this_start
from tunesmith_trainer.train.worker_workspace import newest_kept_step, open_workspace

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

STORED = {"uri": f"s3://{BUCKET}/work", "secretRef": {"name": "bucket"}}
TRAINING: dict[str, Any] = {
    "precision": "fp32",
    "batch": {"size": 6, "microBatchSize": 2},
    "optimizer": {"learningRate": 1e-2},
    "maxSteps": 10,
    "evaluateEverySteps": 5,
}
# What differs between them is what each worker writes, and when.
KINDS: dict[str, dict[str, Any]] = {
    "ddp": {
        "training": {**TRAINING, "lora": {"dropout": 0.1}},
        "checkpoint": {"everySteps": 2, "keep": 2, "asynchronous": True},
    },
    "fsdp": {
        "training": {**TRAINING, "parallelism": "fsdp", "method": "full"},
        "checkpoint": {"everySteps": 2, "keep": 2},
    },
}

# Two workers each. The second is killed between a checkpoint's files and its manifest.
PAIRS = ("ddp-whole,fsdp-whole,ddp-cut:step=8", "ddp-resumed,fsdp-cut:upload=6", "fsdp-resumed")


@dataclass(frozen=True, slots=True)
class Runs:
    """What the runs have left: what was handed back by name, and the bucket."""

    folder: Path
    bucket: Any

    def told(self, name: str) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.folder / f"{name}.json").read_text())
        return told

    def request(self, name: str) -> StageRequest:
        text = (self.folder / f"{name}-0.request").read_text()
        return StageRequest.model_validate_json(text)

    def points(self, name: str) -> list[Any]:
        timed = {"seconds", "tokensPerSecond", "residentBytes"}
        points = self.told(name)["history"]["points"]
        return [{key: value for key, value in p.items() if key not in timed} for p in points]

    def tuned(self, name: str) -> dict[str, torch.Tensor]:
        made = (Artifact.model_validate(each) for each in self.told(name)["artifacts"])
        [uri] = (each.uri for each in made if each.name == "tuned")
        [file] = (path for path in self.bucket.find(uri) if path.endswith(".safetensors"))
        return load(self.bucket.cat_file(file))

    def checkpoints(self, name: str) -> dict[str, set[str]]:
        """The files in the store by checkpoint."""
        home = f"{BUCKET}/work/train/{_key(name)[:16]}/checkpoints/"
        files: dict[str, set[str]] = {}
        for path in self.bucket.find(home):
            step, _, file = path.removeprefix(home).partition("/")
            if file:
                files.setdefault(step, set()).add(file)
        return files


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("apart")
    with object_store(folder / "store.log") as endpoint:
        key, secret = KEYS.values()
        bucket = fsspec.filesystem(
            "s3", key=key, secret=secret, endpoint_url=endpoint, use_listings_cache=False
        )
        prepared = _prepared(folder / "sources", bucket)
        for kind in KINDS:
            for name in (f"{kind}-whole", f"{kind}-cut", f"{kind}-resumed"):
                _write_requests(folder, name, kind, prepared=prepared, endpoint=endpoint)
        script = str(Path(apart_runs.__file__))
        command = [sys.executable, script, str(folder), *PAIRS]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        (folder / "workers.log").write_text(done.stderr)
        yield Runs(folder, bucket)


@pytest.mark.parametrize(("kind", "steps"), [("ddp", {5, 6}), ("fsdp", {5})])
def test_killed_they_go_on_from_the_store_with_the_same_curve(
    runs: Runs, kind: str, steps: set[int]
) -> None:
    """What is written beside training may have been on its way."""
    resumed = runs.told(f"{kind}-resumed")

    assert resumed["resumed_from"] in steps
    assert runs.points(f"{kind}-resumed") == runs.points(f"{kind}-whole")
    expected = runs.tuned(f"{kind}-whole")
    got = runs.tuned(f"{kind}-resumed")
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_pruned_goes_from_the_store_as_well(runs: Runs, kind: str) -> None:
    """The newest two, and the one that was the best when the first of them was written."""
    kept = runs.checkpoints(f"{kind}-cut")

    assert kept.keys() == {"step-5", "step-8", "step-10"}
    assert all("manifest.json" in files for files in kept.values())


def test_a_worker_whose_neighbour_is_killed_ends_as_well(runs: Runs) -> None:
    log = (runs.folder / "workers.log").read_text()

    assert json.loads((runs.folder / "exits.json").read_text()) == [[-9, 1], [-9, 1], [0, 0]], log


def test_each_worker_uploads_its_own_part(runs: Runs) -> None:
    files = runs.checkpoints("fsdp-cut")["step-10"]

    assert len([name for name in files if name.startswith("shard-")]) == 2


def test_no_other_disk_has_what_a_worker_wrote(runs: Runs) -> None:
    """Or the runs would prove nothing."""
    second = runs.folder / "disks" / "ddp-whole-1" / "artifacts"

    assert not list(second.rglob("step-*"))


def test_a_worker_of_a_lost_head_can_keep_nothing_more(runs: Runs, tmp_path: Path) -> None:
    request = runs.request("ddp-whole")
    workspace = open_workspace(request)
    assert workspace is not None
    fences = {name: fence_of(workspace, output=tmp_path) for name in ("late", "new")}
    late, new = (
        RemoteCheckpoints(
            workspace.store, place="late/checkpoints", folder=tmp_path / name, fence=fence
        )
        for name, fence in fences.items()
    )
    fences["late"].take()
    late.begin()
    _checkpoint(tmp_path / "late", 2)
    late.keep()
    fences["new"].take()
    new.begin()
    _checkpoint(tmp_path / "late", 4)

    with pytest.raises(FencedError):
        late.keep()
    with pytest.raises(FencedError):
        late.clear(2)

    assert [path.name for path in (tmp_path / "new").iterdir()] == ["step-2"]
    assert workspace.store.list_snapshots("late/checkpoints").keys() == {"step-2"}


def test_what_only_its_own_disk_has_a_resumed_run_does_not_go_on_from(
    runs: Runs, tmp_path: Path
) -> None:
    workspace = open_workspace(runs.request("ddp-whole"))
    assert workspace is not None
    _checkpoint(tmp_path, 6)

    fence = fence_of(workspace, output=tmp_path)
    RemoteCheckpoints(
        workspace.store, place="none/checkpoints", folder=tmp_path, fence=fence
    ).begin()

    assert list(tmp_path.iterdir()) == []


def test_a_new_head_knows_how_far_the_run_is_and_how_often_it_was_started(
    runs: Runs, tmp_path: Path
) -> None:
    request = runs.request("fsdp-cut")
    heads = [
        request.model_copy(update={"output": str(tmp_path / str(number))})
        for number in range(MAX_STARTS + 1)
    ]

    for head in heads[:-1]:
        count_this_start(head)
    with pytest.raises(TransientError, match=f"started {MAX_STARTS} times"):
        count_this_start(heads[-1])

    assert newest_kept_step(request) == 10


def _checkpoint(folder: Path, step: int) -> None:
    (folder / f"step-{step}").mkdir(parents=True)
    (folder / f"step-{step}" / "state.json").write_text(f"{step}")


def _key(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _prepared(folder: Path, bucket: Any) -> StageResult:
    data = folder / "data"
    data.mkdir(parents=True)
    random_rows(24).save(data / "train.safetensors")
    random_rows(6, seed=1).save(data / "validation.safetensors")
    make_tiny_model(folder / "model")
    artifacts = []
    for name in ("model", "data"):
        place = f"{BUCKET}/work/prepare/{name}"
        bucket.put(f"{folder / name}/", place, recursive=True)
        made = artifact_of(name, folder / name)
        artifacts.append(made.model_copy(update={"uri": f"s3://{place}"}))
    return StageResult(
        stage=PREPARE.name,
        key="1" * 64,
        attempt=1,
        outcome="Succeeded",
        reason="Succeeded",
        artifacts=artifacts,
    )


def _write_requests(
    folder: Path, name: str, kind: str, *, prepared: StageResult, endpoint: str
) -> None:
    """One for each worker: the disk is another one, and so it is after it was killed."""
    output = {"model": "tiny", "uri": f"s3://{BUCKET}/models", "secretRef": {"name": "bucket"}}
    spec = {**KINDS[kind], "resources": {"workers": 2}, "workspace": STORED, "output": output}
    job = FineTuneJob.model_validate(a_job(**spec))
    for rank in range(2):
        disk = folder / "disks" / f"{name}-{rank}"
        write_secret(disk / "secrets" / "bucket", {**KEYS, "AWS_ENDPOINT_URL": endpoint})
        request = StageRequest(
            job="job",
            stage=TRAIN.name,
            key=_key(name.replace("resumed", "cut")),
            attempt=2 if name.endswith("resumed") else 1,
            spec=job.spec.with_defaults(),
            inputs={PREPARE.name: prepared},
            output=str(disk / "artifacts"),
            cache=str(disk / "cache"),
            secrets=str(disk / "secrets"),
            store=f"s3://{BUCKET}/work",
            apart=True,
            report=str(disk / "report"),
            result=str(disk / "result"),
            base=str(disk / "base"),
            models=str(disk / "models"),
        )
        (folder / f"{name}-{rank}.request").write_text(request.model_dump_json(by_alias=True))

"""A whole job whose workspace is an object store: six stages, each on a disk of its own."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from object_store import object_store
from prepare_stage import asked, write_jsonl
from small_models import make_tiny_model
from small_sources import BUCKET, KEYS, write_secret
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.plan import Plan, PlannedStage, plan
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult

ENVIRONMENTS = Path(__file__).parents[2] / ".venvs"
STORE = f"s3://{BUCKET}/work/team-tiny-uid"

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(900)]


def test_a_job_is_published_without_a_disk_that_its_stages_share(tmp_path: Path) -> None:
    done: dict[StageName, StageResult] = {}
    with object_store(tmp_path / "store.log") as endpoint:
        bucket = _bucket(endpoint)
        _put_sources(bucket, tmp_path / "sources")
        planned = _planned()
        for stage in planned.stages:
            disk = tmp_path / stage.name
            secret = {**KEYS, "AWS_ENDPOINT_URL": endpoint}
            write_secret(disk / "secrets" / "bucket", secret)
            done[stage.name] = _run(stage, planned, disk, inputs=done)
        published = bucket.find(f"{BUCKET}/models")

    handed_on = [each.uri for name in list(done)[:-1] for each in done[name].artifacts]
    assert all(each.startswith(f"{STORE}/") for each in handed_on)
    assert any(each.endswith("/model-version.yaml") for each in published)


def _bucket(endpoint: str) -> Any:
    key, secret = KEYS.values()
    return fsspec.filesystem("s3", key=key, secret=secret, endpoint_url=endpoint)


def _put_sources(bucket: Any, folder: Path) -> None:
    folder.mkdir()
    make_tiny_model(folder / "model")
    write_jsonl(folder / "rows.jsonl", asked(*[f"question number {n}?" for n in range(24)]))
    bucket.put(str(folder), f"{BUCKET}/sources", recursive=True)


def _planned() -> Plan:
    reference = {"secretRef": {"name": "bucket"}}
    job = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "tiny"},
        "spec": {
            "model": {"uri": f"s3://{BUCKET}/sources/model", **reference},
            "dataset": {
                "train": {"uri": f"s3://{BUCKET}/sources/rows.jsonl", **reference},
                "validationFraction": 0.3,
            },
            "training": {
                "maxSteps": 4,
                "sequenceLength": 256,
                "batch": {"size": 4, "microBatchSize": 2},
            },
            "compression": {"quantize": {"scheme": "none"}},
            "verification": {"prompts": 2, "maxNewTokens": 4},
            "output": {"model": "tiny", "uri": f"s3://{BUCKET}/models", **reference},
            "workspace": {"uri": f"s3://{BUCKET}/work", **reference},
        },
    }
    return plan(FineTuneJob.model_validate(job), fingerprints={})


def _run(
    stage: PlannedStage, planned: Plan, disk: Path, *, inputs: Mapping[StageName, StageResult]
) -> StageResult:
    """Run the stage as a pod does, with all its folders on `disk`."""
    request = StageRequest(
        job=planned.job,
        stage=stage.name,
        key=stage.key,
        attempt=1,
        spec=planned.spec,
        inputs=dict(inputs),
        stage_keys={each.name: each.key for each in planned.stages},
        output=str(disk / "artifacts"),
        report=str(disk / "progress.json"),
        result=str(disk / "result.json"),
        base=str(disk),
        cache=str(disk / "cache"),
        secrets=str(disk / "secrets"),
        models=str(disk / "models"),
        store=STORE,
    )
    (disk / "request.json").write_text(request.model_dump_json(by_alias=True))
    python = ENVIRONMENTS / stage.environment / "bin" / "python"
    command = [str(python), "-m", stage.stage.package, stage.name, str(disk / "request.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=400)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return StageResult.model_validate_json((disk / "result.json").read_text())

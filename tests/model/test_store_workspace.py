"""A whole job whose workspace is an object store: six stages, each on a disk of its own.

Words are planted in its rows, its prompts and its secrets: what a job shows has none of them.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from object_store import object_store
from planted_strings import ROWS, SECRET, TRAINED, leaks, signing_key, write_planted_rows
from small_models import make_tiny_model
from small_sources import BUCKET, KEYS, write_secret
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.plan import Plan, PlannedStage, plan
from tunesmith_engine.sources.version_signature import SIGNING_KEY
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
        key, line = signing_key()
        for stage in planned.stages:
            disk = tmp_path / stage.name
            secret = {**KEYS, "AWS_ENDPOINT_URL": endpoint, "UNUSED": SECRET}
            write_secret(disk / "secrets" / "bucket", secret)
            write_secret(disk / "secrets" / "release", {SIGNING_KEY: key})
            done[stage.name] = _run(stage, planned, disk, inputs=done)
        published = bucket.find(f"{BUCKET}/models")
        versions = [(path, bucket.cat_file(path)) for path in published]
        kept = [(path, bucket.cat_file(path)) for path in bucket.find(f"{BUCKET}/work")]

    handed_on = [each.uri for name in list(done)[:-1] for each in done[name].artifacts]
    assert all(each.startswith(f"{STORE}/") for each in handed_on)
    assert any(each.endswith("/model-version.yaml") for each in published)
    assert any(each.endswith("/version.sig") for each in published)
    # What goes into the status and the page, and what is logged and published.
    secrets = [SECRET, KEYS["AWS_SECRET_ACCESS_KEY"], line]
    shown = [file for name in done for file in _shown(tmp_path / name)]
    assert len(shown) == 3 * len(done)
    assert leaks([*shown, *versions], [*ROWS, *secrets]) == []
    # The workspace has the rows, of which the job is made; but no secret.
    assert leaks(kept, [TRAINED])
    assert leaks(kept, secrets) == []


def _shown(disk: Path) -> list[tuple[str, bytes]]:
    names = ("result.json", "progress.json", "log.txt")
    return [(str(disk / name), (disk / name).read_bytes()) for name in names]


def _bucket(endpoint: str) -> Any:
    key, secret = KEYS.values()
    return fsspec.filesystem("s3", key=key, secret=secret, endpoint_url=endpoint)


def _put_sources(bucket: Any, folder: Path) -> None:
    folder.mkdir()
    make_tiny_model(folder / "model")
    write_planted_rows(folder)
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
                "validation": {"uri": f"s3://{BUCKET}/sources/held-out.jsonl", **reference},
                "maxBadRows": 1,
            },
            "training": {
                "maxSteps": 4,
                "sequenceLength": 256,
                "batch": {"size": 4, "microBatchSize": 2},
            },
            "compression": {"quantize": {"scheme": "none"}},
            "verification": {"prompts": 2, "maxNewTokens": 4},
            "output": {
                "model": "tiny",
                "uri": f"s3://{BUCKET}/models",
                "signing": {"secretRef": {"name": "release"}},
                **reference,
            },
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
    (disk / "log.txt").write_text(ran.stdout + ran.stderr)
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return StageResult.model_validate_json((disk / "result.json").read_text())

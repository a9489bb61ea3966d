"""A workspace in an object store: stages run on empty disks, and nothing counts by half."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from moto.core.authorization import enable_iam_authentication

from attempts import request_for
from command import wait_until
from small_sources import BUCKET, KEYS, write_secret
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources import remote_store
from tunesmith_engine.sources.version_manifest import VersionManifest, parse_manifest, version_files
from tunesmith_engine.sources.workspace_store import WorkspaceStore
from tunesmith_engine.stages import checkpoint_mirror, entry
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import (
    Reporter,
    StageFunction,
    StageName,
    StageOutcome,
    StageRequest,
    StageResult,
)
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.remote_workspace import StageWorkspace

PREFIX = f"{BUCKET}/work/ns-helpdesk-u"
CHECKPOINTS = "checkpoints"
Made = dict[StageName, StageResult]


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_mirror, "_INTERVAL_S", 0.05)


@pytest.fixture
def pod(bucket: Any, secrets: Path, tmp_path: Path) -> Callable[..., StageRequest]:
    """The request of a stage that runs on a disk of its own, with nothing on it."""

    def request(stage: str, *, attempt: int = 1, inputs: Made | None = None) -> StageRequest:
        disk = tmp_path / f"{stage}-{attempt}"
        places = {
            name: str(disk / name) for name in ("report", "result", "base", "cache", "models")
        }
        given = request_for(
            stage,
            attempt=attempt,
            workspace={"uri": f"s3://{BUCKET}/work", "secretRef": {"name": "bucket"}},
            output={"model": "helpdesk", "uri": "s3://models"},
        )
        more = {
            "inputs": inputs or {},
            "output": str(disk / "artifacts"),
            "secrets": str(secrets),
            "store": f"s3://{PREFIX}",
        }
        return given.model_copy(update={**places, **more})

    return request


def run(request: StageRequest, stage: StageFunction) -> StageResult:
    """What the stage reports, as another process would read it."""
    entry.run_stage(stage, request)
    return StageResult.model_validate_json(Path(request.result).read_text())


def prepare(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """A folder with a folder in it, and a file beside the stage's output."""
    data, card = Path(request.output) / "data", Path(request.cache) / "card.json"
    (data / "deep").mkdir(parents=True)
    (data / "train.bin").write_bytes(f"rows of attempt {request.attempt}".encode())
    (data / "deep" / "more.bin").write_bytes(b"more")
    card.parent.mkdir(parents=True, exist_ok=True)
    card.write_text("{}")
    return StageOutcome("made", artifacts=[artifact_of("data", data), artifact_of("card", card)])


def read(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """A stage that says what it has read of the one before it."""
    made = request.inputs[PREPARE.name]
    data = local_path(made.artifact("data"))
    texts = [(data / name).read_text() for name in ("train.bin", "deep/more.bin")]
    return StageOutcome(", ".join([*texts, local_path(made.artifact("card")).read_text()]))


def resume(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """A stage that says which checkpoints it finds."""
    folder = Path(request.output) / CHECKPOINTS
    found = sorted(folder.iterdir()) if folder.exists() else []
    return StageOutcome(", ".join(f"{each.name}: {(each / 'w').read_text()}" for each in found))


def checkpoint(request: StageRequest, step: int, content: str = "weights") -> Path:
    """Write one as the trainer does: beside its place, then under its name."""
    folder = Path(request.output) / CHECKPOINTS
    growing = folder / f".step-{step}.1"
    growing.mkdir(parents=True)
    (growing / "w").write_text(f"{content} {step}")
    (growing / "state.json").write_text("{}")
    return growing.rename(folder / f"step-{step}")


def test_what_a_stage_makes_is_there_for_the_next_one_on_an_empty_disk(
    bucket: Any, pod: Callable[..., StageRequest], tmp_path: Path
) -> None:
    made = run(request := pod("prepare"), prepare)
    root = f"prepare/{request.key[:16]}/1"
    (tmp_path / "prepare-1").rename(tmp_path / "gone")

    got = run(pod("train", inputs={PREPARE.name: made}), read)

    assert [each.uri for each in made.artifacts] == [
        f"s3://{PREFIX}/{root}/data",
        f"s3://{PREFIX}/{root}/card.json",
    ]
    assert (
        made.artifact("data").digest == artifact_of("data", tmp_path / "gone/artifacts/data").digest
    )
    assert (got.outcome, got.message) == ("Succeeded", "rows of attempt 1, more, {}")
    assert bucket.exists(f"{PREFIX}/{root}/data/deep/more.bin")


def test_what_was_changed_in_the_store_is_never_used(
    bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    made = run(request := pod("prepare"), prepare)
    bucket.pipe_file(f"{PREFIX}/prepare/{request.key[:16]}/1/data/train.bin", b"rows of attempt 2")

    got = run(pod("train", inputs={PREPARE.name: made}), read)

    assert (got.reason, got.bad_input) == (Reason.WORKSPACE_UNAVAILABLE, True)
    assert "data is not what was written there" in got.message


@pytest.mark.parametrize("name", ["data", "card.json"])
def test_what_was_removed_from_the_store_is_said_to_be_missing(
    name: str, bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    made = run(request := pod("prepare"), prepare)
    bucket.rm(f"{PREFIX}/prepare/{request.key[:16]}/1/{name}", recursive=True)

    got = run(pod("train", inputs={PREPARE.name: made}), read)

    assert (got.reason, got.bad_input) == (Reason.WORKSPACE_UNAVAILABLE, True)
    assert f"1/{name}; somebody has removed it" in got.message


def never(request: StageRequest, reporter: Reporter) -> StageOutcome:
    raise AssertionError("hours of work, which nobody could keep")


def test_a_wrong_key_is_told_before_the_stage_begins(
    pod: Callable[..., StageRequest], secrets: Path, s3_endpoint: str
) -> None:
    wrong = {**KEYS, "AWS_ACCESS_KEY_ID": "wrong", "AWS_ENDPOINT_URL": s3_endpoint}
    write_secret(secrets / "bucket", wrong)

    with enable_iam_authentication():
        got = run(pod("prepare"), never)

    assert (got.reason, got.bad_input) == (Reason.WORKSPACE_UNAVAILABLE, True)
    assert got.message == (
        f"workspace: access to s3://{PREFIX} was denied; "
        "name credentials that may use it in secretRef."
    )


def test_a_bucket_that_is_not_there_is_told_before_the_stage_begins(
    bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    bucket.rm(BUCKET, recursive=True)

    got = run(pod("prepare"), never)

    assert (got.reason, got.bad_input) == (Reason.WORKSPACE_UNAVAILABLE, True)
    assert f"nothing was found at s3://{PREFIX}" in got.message


def test_a_secret_that_is_not_there_is_named(pod: Callable[..., StageRequest]) -> None:
    request = pod("prepare")

    got = run(request.model_copy(update={"secrets": request.base}), never)

    assert (got.reason, got.bad_input) == (Reason.SECRET_NOT_FOUND, True)


def test_a_store_that_does_not_answer_is_tried_again(
    pod: Callable[..., StageRequest], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_store, "_ATTEMPTS", 1)
    write_secret(secrets / "bucket", {**KEYS, "AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    got = run(pod("prepare"), never)

    assert (got.reason, got.retryable) == (Reason.SOURCE_UNREACHABLE, True)


def test_a_stage_whose_artifacts_could_not_be_kept_has_not_succeeded(
    bucket: Any, pod: Callable[..., StageRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object, **__: object) -> None:
        raise ConnectionResetError

    # The file system of one server and one secret is one object.
    monkeypatch.setattr(bucket, "put_file", breaks)

    got = run(pod("prepare"), prepare)

    assert (got.outcome, got.reason) == ("Failed", Reason.SOURCE_UNREACHABLE)
    assert got.retryable
    assert got.artifacts == []


def test_a_refused_model_still_shows_its_numbers(pod: Callable[..., StageRequest]) -> None:
    def refuse(request: StageRequest, reporter: Reporter) -> StageOutcome:
        findings = prepare(request, reporter)
        raise VerdictError(Reason.EVALUATION_GATE_FAILED, "worse", findings=findings)

    got = run(pod("evaluate"), refuse)

    assert got.reason == Reason.EVALUATION_GATE_FAILED
    assert [each.uri.partition("://")[0] for each in got.artifacts] == ["s3", "s3"]


def test_killed_before_it_could_report_it_runs_again_and_nothing_is_mixed(
    bucket: Any, pod: Callable[..., StageRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patched:
        patched.setattr(entry, "write_report", killed)
        with pytest.raises(SystemExit):
            entry.run_stage(prepare, pod("prepare"))
    made = run(request := pod("prepare", attempt=2), prepare)
    home = f"{PREFIX}/prepare/{request.key[:16]}"
    # The first one, thought dead on a lost node, comes to its end only now.
    bucket.pipe_file(f"{home}/1/data/train.bin", b"late")

    got = run(pod("train", inputs={PREPARE.name: made}), read)

    assert got.message == "rows of attempt 2, more, {}"


def test_checkpoints_are_in_the_store_while_the_stage_runs_and_those_it_removes_are_not(
    bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    request = pod("train")
    home = f"{PREFIX}/train/{request.key[:16]}/{CHECKPOINTS}"

    def there() -> set[str]:
        found = [path.removeprefix(f"{home}/") for path in bucket.find(home)]
        return {name.partition("/")[0] for name in found if name.endswith("/manifest.json")}

    def train(request: StageRequest, reporter: Reporter) -> StageOutcome:
        old = checkpoint(request, 2)
        wait_until(lambda: there() == {"step-2"}, what="step-2", timeout_s=20)
        checkpoint(request, 10)
        (old.parent / ".step-12.1").mkdir()
        wait_until(lambda: there() == {"step-2", "step-10"}, what="step-10", timeout_s=20)
        for file in old.iterdir():
            file.unlink()
        old.rmdir()
        wait_until(lambda: there() == {"step-10"}, what="step-2 to go", timeout_s=20)
        raise SystemExit  # SIGTERM

    with pytest.raises(SystemExit):
        entry.run_stage(train, request)
    got = run(pod("train", attempt=2), resume)

    assert got.message == "step-10: weights 10"
    assert not bucket.find(f"{home}/step-2")


def test_a_checkpoint_that_is_done_as_the_stage_ends_is_kept_too(
    pod: Callable[..., StageRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_mirror, "_INTERVAL_S", 60.0)

    def crash(request: StageRequest, reporter: Reporter) -> StageOutcome:
        checkpoint(request, 2)
        raise RuntimeError

    run(pod("train"), crash)

    assert run(pod("train", attempt=2), resume).message == "step-2: weights 2"


def test_workers_that_are_apart_are_told_where_the_store_has_what_they_read(
    bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    made = run(pod("prepare"), prepare)
    told: list[StageRequest] = []

    def train(request: StageRequest, reporter: Reporter) -> StageOutcome:
        told.append(request)
        # Only its workers know which checkpoints count.
        checkpoint(request, 2)
        return read(request, reporter)

    request = pod("train", inputs={PREPARE.name: made}).model_copy(update={"apart": True})
    got = run(request, train)

    assert got.message == "rows of attempt 1, more, {}"
    assert told[0].stored_inputs == {PREPARE.name: made}
    assert not bucket.find(f"{PREFIX}/train/{request.key[:16]}/{CHECKPOINTS}")


def test_a_checkpoint_of_several_disks_is_there_once_its_manifest_is(
    bucket: Any, pod: Callable[..., StageRequest], tmp_path: Path
) -> None:
    def opened(attempt: int) -> StageWorkspace:
        request = pod("train", attempt=attempt)
        return StageWorkspace.opened(f"s3://{PREFIX}", request, print)

    first, second, third = map(opened, (1, 2, 3))
    (part := tmp_path / "part").mkdir()
    (part / "shard").write_text("of the other")
    place = f"{second.checkpoints_place}/step-2"
    second.store.put_part(part, ["shard"], place)
    checkpoint(first.request, 2)
    before = third.checkpoints().fetch("step-2")
    first.checkpoints().finish("step-2", VersionManifest(files=version_files(part)))

    assert not before
    assert third.checkpoints().fetch("step-2")
    fetched = Path(third.request.output) / CHECKPOINTS / "step-2"
    assert sorted(path.name for path in fetched.iterdir()) == ["shard", "state.json", "w"]


def half(bucket: Any, home: str) -> None:
    """Its upload was cut off before its manifest."""
    bucket.rm_file(f"{home}/step-4/manifest.json")


def spoilt(bucket: Any, home: str) -> None:
    bucket.pipe_file(f"{home}/step-4/w", b"wrongful 4")


def incomplete(bucket: Any, home: str) -> None:
    bucket.rm_file(f"{home}/step-4/w")


def nonsense(bucket: Any, home: str) -> None:
    bucket.pipe_file(f"{home}/step-4/manifest.json", b"half a mani")


@pytest.mark.parametrize("harm", [half, spoilt, incomplete, nonsense])
def test_half_a_checkpoint_is_never_gone_on_from(
    harm: Callable[[Any, str], None], bucket: Any, pod: Callable[..., StageRequest]
) -> None:
    def crash(request: StageRequest, reporter: Reporter) -> StageOutcome:
        checkpoint(request, 2)
        checkpoint(request, 4)
        raise RuntimeError

    def redo(request: StageRequest, reporter: Reporter) -> StageOutcome:
        found = resume(request, reporter)
        checkpoint(request, 4, "anew")
        return found

    run(request := pod("train"), crash)
    harm(bucket, f"{PREFIX}/train/{request.key[:16]}/{CHECKPOINTS}")

    assert run(pod("train", attempt=2), redo).message == "step-2: weights 2"
    assert run(pod("train", attempt=3), resume).message == "step-2: weights 2, step-4: anew 4"


def test_a_checkpoint_that_could_not_be_kept_is_tried_again_and_the_stage_goes_on(
    bucket: Any, pod: Callable[..., StageRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    really = WorkspaceStore.put_snapshot

    def sometimes(store: WorkspaceStore, folder: Path, place: str) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError
        really(store, folder, place)

    def train(request: StageRequest, reporter: Reporter) -> StageOutcome:
        checkpoint(request, 2)
        wait_until(lambda: tries >= 3, what="another try", timeout_s=20)
        return StageOutcome("trained")

    monkeypatch.setattr(WorkspaceStore, "put_snapshot", sometimes)

    assert run(pod("train"), train).outcome == "Succeeded"
    assert run(pod("train", attempt=2), resume).message == "step-2: weights 2"


def test_a_checkpoint_that_was_restored_is_not_uploaded_again(
    pod: Callable[..., StageRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(request: StageRequest, reporter: Reporter) -> StageOutcome:
        checkpoint(request, 2)
        raise RuntimeError

    def refuse(*_: object) -> None:
        raise AssertionError("it is there")

    run(pod("train"), crash)
    monkeypatch.setattr(WorkspaceStore, "put_snapshot", refuse)

    assert run(pod("train", attempt=2), resume).outcome == "Succeeded"


def test_a_checkpoint_whose_name_leads_elsewhere_is_none(pod: Callable[..., StageRequest]) -> None:
    """What a mirror restores it removes first, so a name is never a way to another folder."""
    workspace = StageWorkspace.opened(f"s3://{PREFIX}", pod("train"), lambda _: None)
    content = VersionManifest.model_validate({"files": {"x": {"digest": "d", "bytes": 1}}})
    for name in ("step-1/deep", "step-2"):
        place = f"{workspace.checkpoints_place}/{name}"
        workspace.store.write_text(f"{place}/manifest.json", content.text())

    assert workspace.store.list_snapshots(workspace.checkpoints_place).keys() == {"step-2"}


def test_a_manifest_that_names_files_elsewhere_is_none() -> None:
    for name in ("../x", "/etc/x", "a/../../x", ""):
        text = json.dumps({"files": {name: {"digest": "d", "bytes": 1}}})
        assert parse_manifest(text.encode()) is None

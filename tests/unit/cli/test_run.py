"""`tunesmith run` around the engine: streams, exit codes, report, what is said at the end."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from job_folders import JobFolder, a_failed_job, a_finished_job, a_running_job
from manifests import a_job
from tunesmith_api.conditions import ConditionType
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.reasons import Reason
from tunesmith_cli.commands import run as command
from tunesmith_cli.main import main
from tunesmith_engine.local.errors import JobBusy
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.sources.errors import SourceError
from tunesmith_engine.stages.catalog import EVALUATE

Engine = Callable[..., FineTuneJobStatus]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(a_job()))
    return path


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], None]:
    """Puts a function in the place of the engine's own `run_job`."""
    return lambda stand_in: monkeypatch.setattr(command, "run_job", stand_in)


def leaving(make: Callable[..., JobFolder], **update: Any) -> Engine:
    """An engine that leaves such a job behind."""

    def run_job(
        job: Any, *, home: HomeFolder, watch: Callable[[FineTuneJobStatus], None], **_: Any
    ) -> FineTuneJobStatus:
        made = make(home.root, name=job.metadata.name)
        status = made.status.model_copy(update=update)
        watch(status)
        return status

    return run_job


def test_from_alone_throws_nothing_away(
    manifest: Path, capsys: pytest.CaptureFixture[str], engine: Callable[[Engine], None]
) -> None:
    engine(refusing(AssertionError("it ran")))

    assert main(["run", str(manifest), "--from", "train"]) == 2
    assert "needs --force" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "first"),
    [([], None), (["--force"], "prepare"), (["--force", "--from", "compress"], "compress")],
)
def test_force_begins_at_the_first_stage_or_at_the_one_that_is_named(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    *,
    options: list[str],
    first: str | None,
) -> None:
    asked: list[str | None] = []

    def run_job(*args: Any, forced_from: str | None, **named: Any) -> FineTuneJobStatus:
        asked.append(forced_from)
        return leaving(a_finished_job)(*args, **named)

    engine(run_job)
    main(["run", str(manifest), "--home", str(tmp_path), *options])

    assert asked == [first]


def refusing(error: Exception) -> Engine:
    def run_job(*_: Any, **__: Any) -> FineTuneJobStatus:
        raise error

    return run_job


def test_the_engine_is_asked_for_what_the_options_say(
    manifest: Path, tmp_path: Path, engine: Callable[[Engine], None]
) -> None:
    asked: dict[str, Any] = {}

    def run_job(job: Any, **given: Any) -> FineTuneJobStatus:
        asked.update(given, job=job.metadata.name)
        return leaving(a_finished_job)(job, **given)

    engine(run_job)

    main(["run", str(manifest), "--home", str(tmp_path / "h"), "--until", "evaluate"])

    assert asked["job"] == "helpdesk"
    assert asked["until"] == EVALUATE.name
    assert asked["base"] == tmp_path
    assert asked["manifest_text"] == manifest.read_text()


def test_a_finished_job_is_told_and_has_its_report(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(leaving(a_finished_job))

    code = main(["run", str(manifest), "--home", str(tmp_path)])

    captured = capsys.readouterr()
    assert code == 0
    assert captured.out.startswith("helpdesk: Succeeded in 4 min 51 s\n")
    assert f"tunesmith serve helpdesk --home {tmp_path}" in captured.out
    assert (tmp_path / "jobs/helpdesk/report.html").is_file()
    assert "helpdesk: train: done in 2 min 31 s\n" in captured.err


def test_stdout_holds_exactly_one_object_where_that_was_asked_for(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(leaving(a_finished_job))

    code = main(["run", str(manifest), "--home", str(tmp_path), "--output", "json"])

    captured = capsys.readouterr()
    printed = json.loads(captured.out)
    assert (code, printed["phase"]) == (0, "Succeeded")
    assert Path(printed["report"]).is_file()
    assert "Succeeded in 4 min 51 s" in captured.err


def test_a_refused_model_ends_with_1_its_reason_and_its_log(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(leaving(a_failed_job))

    code = main(["run", str(manifest), "--home", str(tmp_path)])

    out = capsys.readouterr().out
    assert code == 1
    assert "EvaluationGateFailed: heldOut loss is 3.1" in out
    assert "What to do: " in out
    log = next(line.split()[1] for line in out.splitlines() if line.startswith("log "))
    assert Path(log).read_text() == "starting evaluate\nevaluate ended\n"


def test_bad_input_that_a_stage_found_ends_with_2(
    manifest: Path, tmp_path: Path, engine: Callable[[Engine], None]
) -> None:
    def run_job(job: Any, *, home: HomeFolder, **given: Any) -> FineTuneJobStatus:
        status = leaving(a_failed_job)(job, home=home, **given)
        for path in home.root.glob("jobs/*/stages/evaluate/*/attempts/1/result.json"):
            path.write_text(path.read_text().replace('"badInput":false', '"badInput":true'))
        return status

    engine(run_job)

    assert main(["run", str(manifest), "--home", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (2, JobBusy("job 'helpdesk' is being run by process 7")),
        (2, SourceError(Reason.DATASET_NOT_FOUND, "data: nothing was found at file://x")),
        (1, SourceError(Reason.SOURCE_UNREACHABLE, "hub: no answer", retryable=True)),
        (2, PermissionError(13, "Permission denied", "/somewhere")),
        (1, OSError(28, "No space left on device", "/somewhere")),
    ],
    ids=["busy", "no data", "no network", "no rights", "no space"],
)
def test_what_stops_a_run_before_it_starts_is_one_error(
    code: int,
    error: Exception,
    manifest: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(refusing(error))

    ended = main(["run", str(manifest), "--home", str(manifest.parent), "--output", "json"])

    captured = capsys.readouterr()
    assert ended == code
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    assert set(json.loads(captured.out)["error"]) == {"reason", "message"}


def test_a_broken_manifest_never_reaches_the_engine(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(refusing(AssertionError("must not be called")))
    manifest.write_text(manifest.read_text().replace("dataset:", "datasets:"))

    assert main(["run", str(manifest), "--home", str(tmp_path)]) == 2

    assert f"error: {manifest}:" in capsys.readouterr().err


def test_ctrl_c_stops_the_run_and_says_how_to_go_on(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_job(job: Any, *, stop: Any, **given: Any) -> FineTuneJobStatus:
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        return _held(leaving(a_running_job)(job, **given), Reason.INTERRUPTED)

    engine(run_job)

    code = main(["run", str(manifest), "--until", "train", "--home", str(tmp_path)])

    said = capsys.readouterr()
    assert code == 130
    assert f"to go on: tunesmith run {manifest} --until train --home {tmp_path}" in said.err
    assert "helpdesk: Stopped" in said.out
    assert "suspend" not in said.out.lower()


def test_a_second_ctrl_c_ends_it_at_once(
    manifest: Path, tmp_path: Path, engine: Callable[[Engine], None]
) -> None:
    def run_job(*_: Any, **__: Any) -> FineTuneJobStatus:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the second signal must raise")

    engine(run_job)

    assert main(["run", str(manifest), "--home", str(tmp_path)]) == 130


@pytest.mark.parametrize(("reason", "code"), [(Reason.STOPPED_AS_ASKED, 0), (Reason.SUSPENDED, 1)])
def test_stopping_where_it_was_asked_to_is_no_failure(
    *,
    reason: Reason,
    code: int,
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    engine(lambda *given, **named: _held(leaving(a_running_job)(*given, **named), reason))

    assert main(["run", str(manifest), "--home", str(tmp_path)]) == code
    phase = "Stopped" if code == 0 else "Suspended"
    assert f"helpdesk: {phase}" in capsys.readouterr().out


def test_serve_follows_only_a_finished_job(
    manifest: Path,
    tmp_path: Path,
    engine: Callable[[Engine], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served: list[Path] = []

    def serve(folder: Path, **_: Any) -> int:
        served.append(folder)
        return 0

    monkeypatch.setattr(command, "serve_folder", serve)

    engine(leaving(a_failed_job))
    main(["run", str(manifest), "--home", str(tmp_path / "a"), "--serve"])
    engine(leaving(a_finished_job))
    main(["run", str(manifest), "--home", str(tmp_path / "b"), "--serve"])

    assert [path.name for path in served] == ["1a2b3c4d5e6f"]


def _held(status: FineTuneJobStatus, reason: Reason) -> FineTuneJobStatus:
    """The status of a job that was stopped for that reason."""
    conditions = [
        {
            "type": ConditionType.READY,
            "status": "False",
            "reason": reason,
            "lastTransitionTime": status.start_time,
        }
    ]
    dumped = status.model_dump(by_alias=True)
    return FineTuneJobStatus.model_validate(
        {**dumped, "conditions": conditions, "phase": Phase.SUSPENDED}
    )

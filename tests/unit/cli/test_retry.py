"""`tunesmith retry` by a kubectl that is played; the real one is in tests/cluster."""

import json
from pathlib import Path

import pytest

from tunesmith_cli.main import main
from tunesmith_engine.local.home_folder import HomeFolder


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The arguments of each call of kubectl, which tells of the job in the file `job`."""
    script = tmp_path / "bin/kubectl"
    script.parent.mkdir()
    script.write_text(
        f'#!/bin/sh\necho "$@" >> "{tmp_path}/asked"\n'
        f'if [ "$1" = get ]; then cat "{tmp_path}/job" || exit 1; fi\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    monkeypatch.setenv("TUNESMITH_HOME", str(tmp_path / "home"))
    return tmp_path / "asked"


def told(asked: Path, phase: str) -> None:
    (asked.parent / "job").write_text(json.dumps({"status": {"phase": phase}}))


def test_a_failed_job_is_annotated_with_the_time(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(asked, "Failed")

    assert main(["retry", "helpdesk", "--namespace", "ml"]) == 0

    get, annotate = asked.read_text().splitlines()
    assert get == "get finetunejob helpdesk --namespace ml --output json"
    assert annotate.startswith(
        "annotate finetunejob helpdesk --namespace ml --overwrite "
        "tunesmith.dev/retry-requested-at=20"
    )
    assert "kubectl get finetunejob helpdesk --namespace ml --watch" in capsys.readouterr().out


def test_without_a_namespace_it_is_that_of_kubectl(asked: Path) -> None:
    told(asked, "Failed")

    assert main(["retry", "helpdesk"]) == 0

    assert "--namespace" not in asked.read_text()


@pytest.mark.parametrize("phase", ["Training", "Succeeded"])
def test_a_job_that_has_not_failed_is_left_alone(
    phase: str, asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told(asked, phase)

    assert main(["retry", "helpdesk"]) == 2

    assert f"'helpdesk' is {phase}; only" in capsys.readouterr().err
    assert "annotate" not in asked.read_text()


def test_a_job_that_is_not_there_is_bad_input(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["retry", "helpdesk"]) == 2
    assert "no job 'helpdesk' is seen" in capsys.readouterr().err


def test_a_job_of_this_machine_is_to_be_run_again(
    asked: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = HomeFolder(asked.parent / "home").job("helpdesk")
    folder.mkdir(parents=True)
    (folder / "status.json").write_text("{}")

    assert main(["retry", "helpdesk"]) == 2

    assert "tunesmith run FILE" in capsys.readouterr().err
    assert not asked.exists()


@pytest.mark.parametrize("name", ["--all", "A"])
def test_what_is_no_name_never_reaches_kubectl(name: str, asked: Path) -> None:
    with pytest.raises(SystemExit) if name.startswith("-") else pytest.MonkeyPatch.context():
        assert main(["retry", name]) == 2
    assert not asked.exists()

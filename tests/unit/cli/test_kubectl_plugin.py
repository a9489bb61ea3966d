"""`kubectl tunesmith` over a kubectl that answers from files; `tests/cluster` has the real one."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from job_folders import a_running_job
from tunesmith_cli.command_reference import arguments_of, subcommands
from tunesmith_cli.kubectl_plugin import build_parser, main

KUBECTL = """#!/bin/sh
echo "$@" >> {calls}
case "$1 $2" in
  "config view") printf ml ;;
  "get pods"|"get finetunejob"|"get finetunejobs") cat {answers}/$2.json ;;
  logs*) echo "log of $2" ;;
  *) echo "Error from server (Forbidden): no" >&2; exit 1 ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the answers lie, and `calls`, what kubectl was called with."""
    script = tmp_path / "bin/kubectl"
    script.parent.mkdir()
    script.write_text(KUBECTL.format(answers=tmp_path, calls=tmp_path / "calls"))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return tmp_path


def answer(cluster: Path, kind: str, content: Any) -> None:
    (cluster / f"{kind}.json").write_text(json.dumps(content))


def a_pod(name: str, *, stage: str, created: int, phase: str = "Running") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "creationTimestamp": f"2026-11-27T10:00:0{created}Z",
            "labels": {"tunesmith.dev/stage": stage},
        },
        "status": {"phase": phase},
    }


def test_logs_come_from_the_oldest_pod_to_the_newest_which_is_followed(
    cluster: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    pods = [
        a_pod("b", stage="train", created=2),
        a_pod("a", stage="prepare", created=1, phase="Succeeded"),
    ]
    answer(cluster, "pods", {"items": pods})

    assert main(["logs", "helpdesk", "-f"]) == 0

    assert capfd.readouterr().out == (
        "==> prepare, pod a <==\nlog of a\n==> train, pod b <==\nlog of b\n"
    )
    calls = (cluster / "calls").read_text().splitlines()
    assert "--selector tunesmith.dev/job=helpdesk --namespace ml" in calls[1]
    assert calls[2:] == ["logs a --namespace ml", "logs b --namespace ml --follow"]


def test_a_running_job_of_a_cluster_has_no_word_of_runs_on_this_machine(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = a_running_job(tmp_path / "home").status.model_dump(mode="json", by_alias=True)
    job = {"metadata": {"name": "helpdesk", "namespace": "ml"}, "status": status}
    answer(cluster, "finetunejobs", {"items": [job]})

    assert main(["jobs"]) == 0

    line = capsys.readouterr().out.splitlines()[1]
    assert line.split()[:4] == ["helpdesk", "Training", "31", "%"]
    assert "no run" not in line


def test_what_kubectl_refuses_is_an_error_of_the_command(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(
        cluster, "finetunejob", {"metadata": {"name": "helpdesk"}, "status": {"phase": "Failed"}}
    )

    assert main(["retry", "helpdesk"]) == 1
    assert "'helpdesk' cannot be annotated: Error from server" in capsys.readouterr().err


def test_a_status_of_another_release_is_said_to_be_one(
    cluster: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(cluster, "finetunejob", {"metadata": {"name": "x"}, "status": {"phase": "not a phase"}})

    assert main(["status", "x"]) == 1
    assert "'x' is of another release" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["jobs", "status", "logs", "retry"])
def test_every_argument_says_what_it_means(name: str) -> None:
    parser = subcommands(build_parser())[name]

    assert all(action.help for action in arguments_of(parser))
    assert f"kubectl tunesmith {name}" in parser.format_help().partition("examples:")[2]


def test_another_context_is_handed_to_every_call(cluster: Path) -> None:
    answer(cluster, "pods", {"items": [a_pod("a", stage="train", created=1)]})

    assert main(["logs", "helpdesk", "--context", "far"]) == 0

    calls = (cluster / "calls").read_text().splitlines()
    assert len(calls) == 3
    assert all(call.endswith(" --context=far") for call in calls)

"""`tunesmith watch`: in a terminal, in a pipe, for scripts, of this machine and of a cluster."""

import io
import json
import os
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from command import TUNESMITH
from laptop import NAME, Laptop
from terminal import in_terminal
from tunesmith_cli.commands import watch
from tunesmith_cli.main import main
from tunesmith_cli.terminal.style import Style
from tunesmith_cli.terminal.watch_screen import WatchScreen
from tunesmith_cli.terminal.watch_view import view_lines
from tunesmith_engine.local.deployment.deployment_folder import DeploymentFolder
from tunesmith_engine.local.locks import lock_deployment
from tunesmith_engine.monitoring.history import History
from tunesmith_engine.monitoring.view import DeploymentView
from watched import SPEC, STABLE, report, rollout, sighting, status

PLAIN = Style(has_colour=False)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_S", 0.05)


@pytest.fixture
def folder(tmp_path: Path) -> DeploymentFolder:
    laptop = Laptop.of(tmp_path)
    laptop.write_manifest()
    stored = DeploymentFolder(laptop.folder)
    stored.write_status(status())
    stored.manifest.write_text(laptop.manifest.read_text())
    return stored


def home_of(folder: DeploymentFolder) -> list[str]:
    return ["--home", str(folder.path.parents[1])]


@contextmanager
def served(folder: DeploymentFolder) -> Iterator[None]:
    """As if `tunesmith deploy` ran."""
    with lock_deployment(folder.lock, deployment=NAME):
        yield


def canary_view() -> DeploymentView:
    history = History()
    for seen in rollout(20):
        history = history.after(seen)
    assert history.view is not None
    return history.view


def test_a_canary_in_lines() -> None:
    lines = view_lines(canary_view(), style=PLAIN)

    assert lines[:8] == [
        "helpdesk · Progressing · 12:00:00 UTC",
        "  Analyzing: 81d07e: step 2 of 3, 50 %",
        "  ! SLOBurning: ttft: the last hour used 17.2 times its budget",
        "",
        "             version  weight  achieved  ready  requests  errors  broken off",
        "  stable     3f2a9c   50 %    50 %      1/1    7.1/s     0.0 %   0.0 %",
        "  candidate  81d07e   50 %    50 %      1/1    7.1/s     0.0 %   0.0 %",
        "",
    ]
    assert " ".join(lines[8].split()) == "TTFT p50 p95 p99 ITL p50 p95 p99 tokens"
    assert "  ttftP50     +27.0 %   +11.0 %   +40.0 %   6.1      0.4   912     288" in lines
    assert "  ttft          99 %       17.2 ×     6.0 %        burning" in lines
    assert "  scriptShare       12.3 of 11.5  0.32    drifted" in lines
    assert (
        "  cost: 0.505 per million tokens, 6.2e-05 per request, 48.5 accelerator hours in 30 days"
        in lines
    )


def test_what_is_not_there_is_said_in_lines() -> None:
    seen = sighting(0, status=status().model_copy(update={"monitoring": None}))
    history = History().after(seen)
    assert history.view is not None

    text = "\n".join(view_lines(history.view, style=PLAIN))

    assert "  traffic: no replica answers yet" in text
    assert "  verdict: no rollout was judged yet" in text
    assert "  cost: nothing yet" in text


def test_the_screen_is_never_wider_or_higher_than_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LINES", "14")
    monkeypatch.setenv("COLUMNS", "60")
    screen = WatchScreen(io.StringIO(), style=PLAIN)
    screen.show(canary_view())

    lines = screen.lines(59)

    assert len(lines) == 12
    assert max(map(len, lines)) == 59
    assert lines[-1] == "… (a higher window shows more)"


def test_once_is_for_scripts(folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with served(folder):
        assert main(["watch", NAME, "--once", *home_of(folder)]) == 0

    assert capsys.readouterr().out.startswith("desk · Serving · ")


def test_json_is_one_object(folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with served(folder):
        assert main(["watch", NAME, "--output", "json", *home_of(folder)]) == 0

    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["served"], told["phase"]) == (NAME, True, "Serving")
    assert told["revisions"][0]["version"] == "3f2a9c"


def test_where_nobody_answers_the_exit_code_says_so(
    folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", NAME, "--once", *home_of(folder)]) == 1
    assert "nothing serves it now; tunesmith deploy does" in capsys.readouterr().out


def test_a_name_that_is_none_is_bad_input(
    folder: DeploymentFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "dask", *home_of(folder)]) == 2
    assert "did you mean 'desk'?" in capsys.readouterr().err


def test_ctrl_c_ends_it_without_a_word(folder: DeploymentFolder) -> None:
    command = [str(TUNESMITH), "watch", NAME, *home_of(folder)]
    environment = {**os.environ, "TERM": "xterm", "LINES": "60", "COLUMNS": "120"}
    with served(folder), in_terminal(command, environment=environment) as terminal:
        terminal.wait_until(
            lambda: b"no rollout was judged" in terminal.shown, what="the view", timeout_s=60
        )
        os.kill(terminal.pid, signal.SIGINT)
        assert terminal.wait(timeout_s=20) == 130
    assert b"Traceback" not in terminal.shown


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that answers with the file named after its arguments, or refuses."""
    answers = tmp_path / "answers"
    answers.mkdir()
    script = tmp_path / "bin" / "kubectl"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        f'name=$(echo "$2 $3" | tr -c "a-z0-9\\n" _)\n'
        f'cat "{answers}/$name" 2>/dev/null || '
        '{ echo "Error from server (Forbidden): pods is forbidden" >&2; exit 1; }\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return answers


def deployment() -> dict[str, Any]:
    """As an API server tells it."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "helpdesk", "namespace": "ml", "uid": "u", "resourceVersion": "7"},
        "spec": SPEC.model_dump(mode="json", by_alias=True, exclude_none=True),
        "status": status().model_dump(mode="json", by_alias=True, exclude_none=True),
    }


def test_a_cluster_is_asked_by_way_of_kubectl(
    kubectl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pod = {
        "metadata": {"name": "helpdesk-0", "labels": {"tunesmith.dev/revision": STABLE}},
        "spec": {"containers": [{"ports": [{"containerPort": 8000}]}]},
        "status": {"containerStatuses": [{"restartCount": 1}]},
    }
    (kubectl / "modeldeployment_helpdesk").write_text(json.dumps(deployment()))
    (kubectl / "pods___selector").write_text(json.dumps({"items": [pod]}))
    proxy = "__raw__api_v1_namespaces_ml_pods_helpdesk_0_8000_proxy_"
    (kubectl / f"{proxy}tunesmith_state").write_text(report().model_dump_json(by_alias=True))
    (kubectl / f"{proxy}metrics").write_text('tunesmith_requests_total{outcome="complete"} 5\n')

    code = main(["watch", "helpdesk", "--namespace", "ml", "--output", "json"])

    told = json.loads(capsys.readouterr().out)
    assert code == 0
    assert told["total"]["requestsPerSecond"] == 0
    assert [(row["name"], row["state"], row["restarts"]) for row in told["replicas"]] == [
        ("helpdesk-0", "Ready", 1)
    ]
    assert "Grafana" in told["more"]


def test_without_the_right_to_ask_pods_there_is_what_the_status_says(
    kubectl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (kubectl / "modeldeployment_helpdesk").write_text(json.dumps(deployment()))

    assert main(["watch", "helpdesk", "--namespace", "ml", "--once"]) == 0

    said = capsys.readouterr().out
    assert "traffic: pods cannot be listed: Error from server (Forbidden)" in said
    assert "Grafana" in said
    assert "cost: 0.41 per million tokens" in said


@pytest.mark.parametrize("name", ["../nodes", "A", ""])
def test_a_name_that_is_no_name_never_reaches_kubectl(
    name: str, kubectl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", name, "--namespace", "ml", "--once"]) == 2
    assert "is no name of an object" in capsys.readouterr().err


def test_a_deployment_that_is_not_in_the_cluster_is_bad_input(
    kubectl: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["watch", "helpdesk", "--namespace", "ml", "--once"]) == 2
    assert "no deployment 'helpdesk' is seen: Error from server" in capsys.readouterr().err

"""A run whose terminal is closed, in a real pseudo terminal, with stages that start daemons."""

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml

from command import TUNESMITH, processes_of
from fake_runs import Place, make_place
from manifests import a_job
from small_models import write_model
from terminal import in_terminal
from tunesmith_engine.local.environments import VARIABLE
from tunesmith_engine.local.processes import terminate_leftovers
from tunesmith_engine.stages.catalog import PREPARE


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A job whose prepare starts a daemon and hangs, beside its manifest."""
    place = make_place(tmp_path)
    place.wish(prepare=["hang", "succeed"])
    write_model(place.base / "model")
    (place.base / "rows.jsonl").write_text('{"text": "a row"}\n')
    manifest = a_job(model={"uri": "file://model"}, dataset={"train": {"uri": "file://rows.jsonl"}})
    (place.base / "job.yaml").write_text(yaml.safe_dump(manifest))
    yield place
    terminate_leftovers(place.home.root.resolve())


def command_of(place: Place) -> list[str]:
    home = str(place.home.root)
    manifest = str(place.base / "job.yaml")
    return [str(TUNESMITH), "run", manifest, "--home", home, "--until", PREPARE.name]


def environment_of(place: Place) -> Mapping[str, str]:
    return {**os.environ, VARIABLE: str(place.environments.root), "TERM": "xterm"}


def test_a_closed_terminal_stops_the_run_as_ctrl_c_does(place: Place) -> None:
    with in_terminal(command_of(place), environment=environment_of(place)) as terminal:
        terminal.wait_until(
            lambda: any(line.startswith("daemon ") for line in place.diary()),
            what="the daemon",
            timeout_s=60,
        )
        # The kernel and the shell both tell of it.
        os.kill(terminal.pid, signal.SIGHUP)
        terminal.close()
        code = terminal.wait(timeout_s=60)

    status = place.home.read_status("helpdesk")
    assert code == 130
    assert processes_of(place.root) == []
    assert status is not None
    assert status.phase == "Suspended"
    assert (place.home.job("helpdesk") / "report.html").exists()


def test_under_nohup_a_run_outlives_its_terminal(place: Place) -> None:
    place.wish(prepare=["leave"])
    command = ["/usr/bin/nohup", *command_of(place)]
    log = place.root / "log"
    script = f"exec {' '.join(command)} > {log} 2>&1"

    with in_terminal(["/bin/sh", "-c", script], environment=environment_of(place)) as terminal:
        terminal.wait_until(place.home.lock("helpdesk").exists, what="the run", timeout_s=60)
        terminal.close()
        code = terminal.wait(timeout_s=60)

    assert code == 0, log.read_text()

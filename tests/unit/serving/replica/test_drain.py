"""drain waits until nothing is under way and nothing comes, and no longer than its deadline."""

import socket
from collections.abc import Sequence
from typing import Any

import pytest

from tunesmith_serving.replica.drain import drain, wait_until_idle


def waited(
    *states: tuple[int, float] | Exception, deadline: float = 100.0
) -> tuple[int | None, Sequence[str], float]:
    """Result, requests and seconds, where a replica tells (running, quiet) of one after another."""
    told, asked, time = list(states), [], [0.0]

    def ask(method: str, path: str) -> dict[str, Any]:
        asked.append(f"{method} {path}")
        state = told.pop(0) if len(told) > 1 else told[0]
        if isinstance(state, Exception):
            raise state
        return {"running": state[0], "quietSeconds": state[1]}

    def sleep(seconds: float) -> None:
        time[0] += seconds

    running = wait_until_idle(ask, deadline=deadline, quiet=3.0, clock=lambda: time[0], sleep=sleep)
    return running, asked, time[0]


def test_it_says_so_once_and_waits_for_the_last_request_and_for_silence() -> None:
    running, asked, seconds = waited((2, 0.1), (1, 1.0), (0, 2.9), (0, 3.0))

    assert running == 0
    assert asked == ["POST /tunesmith/drain", *["GET /tunesmith/state"] * 3]
    assert seconds == 0.75


def test_after_the_deadline_it_tells_what_runs() -> None:
    running, _, seconds = waited((2, 5.0), deadline=10.0)

    assert (running, seconds) == (2, 10.0)


def test_a_server_that_is_busy_is_asked_again() -> None:
    running, asked, _ = waited(TimeoutError(), ConnectionResetError(), (1, 0.0), (0, 9.0))

    assert running == 0
    # Until it has heard of it.
    assert asked == [*["POST /tunesmith/drain"] * 3, "GET /tunesmith/state"]


def test_a_server_that_is_gone_has_nothing_under_way() -> None:
    assert waited((1, 0.0), ConnectionRefusedError())[0] is None


def test_the_command_ends_well_where_nothing_listens(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

        assert drain(["--deadline", "5", "--port", str(port)]) == 0

    assert "nothing answers" in capsys.readouterr().err

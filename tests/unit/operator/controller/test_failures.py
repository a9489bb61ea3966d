"""What is logged of looks that fail: outages in a line, what nobody expected with its origin."""

import logging

import pytest
from aiohttp import ClientOSError, ServerDisconnectedError
from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.controller.failures import log_failure


def throw(error: Exception) -> None:
    raise error


def logged(caplog: pytest.LogCaptureFixture, error: Exception) -> str:
    caplog.set_level(logging.DEBUG)
    try:
        throw(error)
    except Exception as caught:  # noqa: BLE001 - as the worker does
        log_failure(caught, job="ns/job", delay_s=2.0)
    return caplog.text


@pytest.mark.parametrize(
    "error",
    [
        ApiException(status=503, reason="GET /x: {\n  down\n}"),
        ApiException(status=429, reason="later"),
        ClientOSError(111, "Connect call failed"),
        ServerDisconnectedError(),
        ConnectionResetError(),
        TimeoutError(),
    ],
)
def test_an_outage_is_one_line(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    (line,) = logged(caplog, error).splitlines()

    assert "WARNING" in line
    assert "ns/job is looked at again in 2.0 s: " in line


@pytest.mark.parametrize("error", [ValueError("x"), ApiException(status=422, reason="invalid")])
def test_what_nobody_expected_is_logged_with_where_it_came_from(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    assert "Traceback" in logged(caplog, error)


def test_a_conflict_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    assert logged(caplog, ApiException(status=409, reason="changed")) == ""

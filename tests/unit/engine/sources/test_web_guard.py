"""A server that is asked for data leads nobody into a network that it cannot reach itself."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec
import pytest

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import DATA, SourceError
from tunesmith_engine.sources.registry import Registry
from tunesmith_engine.sources.remote_store import RemoteStore
from tunesmith_engine.sources.web_guard import ALLOWED_HOSTS, WebGuard

URI = "https://93.184.216.34/rows.jsonl"


def guard(uri: str = URI, *, allowed: str = "") -> WebGuard:
    secret = Secret("web", {ALLOWED_HOSTS: allowed} if allowed else {})
    return WebGuard.of(uri, secret=secret, role=DATA)


@pytest.mark.parametrize(
    "url",
    [
        "https://169.254.169.254/latest/meta-data", "https://10.0.0.1/x", "https://127.0.0.1/x",
        "https://192.168.1.1/x", "https://172.16.0.1/x", "https://100.64.0.1/x", "https://0.0.0.0/",
        "https://[::1]/x", "https://[fe80::1]/x", "https://[fd00::1]/x", "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/x", "https://[2002:a00:1::]/x", "https://224.0.0.1/x",
        "https://2130706433/x", "https://0x7f.1/x",
    ],
)  # fmt: skip
def test_a_redirect_leads_to_no_address_inside_of_a_network(url: str) -> None:
    with pytest.raises(SourceError, match="address inside of a network") as refused:
        guard().check(url)

    assert refused.value.reason is Reason.DATASET_NOT_FOUND
    assert not refused.value.retryable


def test_a_redirect_to_http_is_refused_and_one_to_another_public_host_followed() -> None:
    with pytest.raises(SourceError, match="not asked over https"):
        guard().check("http://93.184.216.34/rows.jsonl")
    guard().check("https://8.8.8.8/signed?sig=1")


def test_a_private_host_is_asked_where_the_manifest_or_the_secret_names_it() -> None:
    guard("https://10.0.0.1/x").check("https://10.0.0.1/y")
    guard(allowed="10.0.0.7, store.internal").check("https://10.0.0.7/x")
    with pytest.raises(SourceError):
        guard("https://10.0.0.1/x").check("https://10.0.0.2/y")


def test_the_metadata_service_is_asked_for_nobody_who_is_not_allowed_to() -> None:
    with pytest.raises(SourceError):
        guard("https://169.254.169.254/x").check("https://169.254.169.254/x")


class _Redirecting(BaseHTTPRequestHandler):
    location = ""
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302)
        self.send_header("Location", self.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815 - the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


@contextmanager
def redirecting(location: str) -> Iterator[tuple[int, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (_Redirecting,), {"location": location, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.server_port, asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_source_is_not_followed_to_another_service_of_this_machine() -> None:
    with (
        redirecting("http://x/") as (inner, asked_inside),
        redirecting(f"http://localhost:{inner}/secret") as (outer, asked),
    ):
        uri = f"http://127.0.0.1:{outer}/rows.jsonl"
        files = fsspec.filesystem(
            "http", skip_instance_cache=True, client_kwargs={"middlewares": (guard(uri),)}
        )
        with pytest.raises(SourceError, match="leads to localhost"):
            RemoteStore(uri=uri, filesystem=files, role=DATA).files()

    assert asked
    assert asked_inside == []


def test_a_registry_is_not_followed_to_the_metadata_service() -> None:
    with redirecting("http://169.254.169.254/latest") as (port, asked):
        registry = Registry(f"127.0.0.1:{port}", "lab/model", secret=Secret())
        with pytest.raises(SourceError, match=r"leads to 169\.254\.169\.254"):
            registry.manifest("v1")

    assert asked

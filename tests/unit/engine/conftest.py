"""An object store on loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from small_sources import BUCKET, KEYS, write_secret
from tunesmith_api.field_types import SecretReference
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.sources.errors import DATA
from tunesmith_engine.sources.remote_store import open_store


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """A server that speaks S3."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def secrets(tmp_path: Path, s3_endpoint: str) -> Path:
    """The folder of secrets, with one called `bucket`."""
    folder = tmp_path / "secrets"
    write_secret(folder / "bucket", {**KEYS, "AWS_ENDPOINT_URL": s3_endpoint})
    return folder


@pytest.fixture
def bucket(secrets: Path) -> Any:
    """An empty bucket, through the connection that the code under test uses."""
    secret = read_secret(SecretReference(name="bucket"), secrets=secrets)
    files = open_store(f"s3://{BUCKET}", secret=secret, role=DATA).filesystem
    if files.exists(BUCKET):
        files.rm(BUCKET, recursive=True)
    files.mkdir(BUCKET)
    return files

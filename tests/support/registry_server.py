"""CNCF's registry on loopback, which asks for a name and a password."""

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

import pytest

from command import free_port, wait_until

PASSWORD = "very-secret-value"
# What `htpasswd -B` makes of user and password.
_HTPASSWD = "ada:$2a$04$SzZFdJozEimURAURtgH3IeglW6B119LGgvnqypZUJbqp5l7noVyhG\n"


@contextmanager
def registry_server(folder: Path) -> Iterator[str]:
    """Its address, as it stands in a reference to an image."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("no registry is on the PATH; Debian has it in the package docker-registry")
    port = free_port()
    (folder / "htpasswd").write_text(_HTPASSWD)
    settings = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}},
        "http": {"addr": f"127.0.0.1:{port}"},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }
    # JSON is YAML.
    (folder / "config.yml").write_text(json.dumps(settings))
    command = [program, "serve", str(folder / "config.yml")]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            wait_until(lambda: _answers(port), what="the registry", timeout_s=30)
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def docker_config(host: str, *, password: str = PASSWORD) -> str:
    """What `kubectl create secret docker-registry` writes."""
    auth = base64.b64encode(f"ada:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"username": "ada", "password": password, "auth": auth}}})


def _answers(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/v2/")
        return connection.getresponse().status == 401
    except OSError:
        return False
    finally:
        connection.close()

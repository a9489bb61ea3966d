"""A server that speaks S3, of the control environment, for tests in those that have none."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from command import free_port, wait_until
from small_sources import BUCKET

_PYTHON = Path(__file__).parents[2] / ".venv/bin/python"


@contextmanager
def object_store(log: Path) -> Iterator[str]:
    """Its endpoint; the bucket of the tests is there."""
    port = free_port()
    command = [str(_PYTHON), "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            wait_until(lambda: _makes_bucket(port), what="the object store", timeout_s=60)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _makes_bucket(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("PUT", f"/{BUCKET}")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()

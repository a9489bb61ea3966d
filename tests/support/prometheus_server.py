"""A real Prometheus that scrapes ports of this machine, with our rules, each second."""

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

START_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class PrometheusServer:
    """Answers queries."""

    port: int

    def query(self, text: str) -> list[dict[str, Any]]:
        """The samples of an instant query: `metric` and `value`."""
        body = urllib.parse.urlencode({"query": text}).encode()
        url = f"http://127.0.0.1:{self.port}/api/v1/query"
        with urllib.request.urlopen(url, data=body, timeout=10) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result


@contextmanager
def prometheus(
    folder: Path, *, targets: Mapping[int, Mapping[str, str]], groups: Sequence[dict[str, Any]]
) -> Iterator[PrometheusServer]:
    """Run it with its data in `folder`; every group of rules is evaluated each second."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not on the PATH; Debian has it in the package prometheus")
    port = _write_configuration(folder, targets=targets, groups=groups)
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        server = PrometheusServer(port)
        _wait(server, process, log=folder / "prometheus.log")
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)


def _write_configuration(
    folder: Path, *, targets: Mapping[int, Mapping[str, str]], groups: Sequence[dict[str, Any]]
) -> int:
    quick = [{**group, "interval": "1s"} for group in groups]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": quick}))
    statics = [
        {"targets": [f"127.0.0.1:{port}"], "labels": dict(labels)}
        for port, labels in targets.items()
    ]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        # As PodMonitor and ServiceMonitor of the chart say.
        "scrape_configs": [
            {"job_name": "tunesmith", "honor_labels": True, "static_configs": statics}
        ],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _wait(server: PrometheusServer, process: subprocess.Popen[bytes], *, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            server.query("up")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"Prometheus did not answer within {START_SECONDS:g} s: {log.read_text()}")

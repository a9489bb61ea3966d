"""The operator as the benchmarks run it: definitions, policy, rights, and jobs for it."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import faster_operator
import helm_python
import yaml
from commands import ROOT
from control_plane import Manifest, apply, kubectl
from operator_runs import give_rights, running

from tunesmith_api.crds import crds
from tunesmith_operator.permissions import PERMISSIONS

ACCOUNT = "bench-tunesmith"
JOBS = "/apis/tunesmith.dev/v1alpha1/namespaces/{namespace}/finetunejobs"
CLAIM = "shared"
_LOOKS = "controller_runtime_reconcile_total"
_DEPTH = 'workqueue_depth{name="finetunejob"}'


def install() -> None:
    """What the chart brings, save the operator itself: that one is run from this checkout."""
    definitions: list[Any] = list(crds().values())
    apply(*definitions, *_policy())
    names = [each["metadata"]["name"] for each in definitions]
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", *names)
    give_rights(
        ACCOUNT,
        [
            {"apiGroups": [each.group], "resources": list(each.resources), "verbs": [*each.verbs]}
            for each in PERMISSIONS
        ],
    )


def _policy() -> list[Manifest]:
    files = helm_python.Chart.load(ROOT / "charts" / "tunesmith").render({}, name="bench")
    texts = (text for path, text in files.items() if path.endswith(".yaml"))
    found = (each for text in texts for each in yaml.safe_load_all(text))
    return [each for each in found if each and each["kind"].startswith("Validating")]


@dataclass(frozen=True, slots=True)
class Operator:
    """A running operator."""

    pid: int
    metrics_port: int

    def wait_for_looks(self, count: int, *, timeout_s: float = 600) -> None:
        """Return once it has looked at jobs so many times, and none is left to look at.

        Raises:
            TimeoutError: it takes too long.
        """
        give_up = time.monotonic() + timeout_s
        while time.monotonic() < give_up:
            time.sleep(1)
            found = self.metrics()
            looks = sum(n for name, n in found.items() if name.startswith(_LOOKS))
            if looks >= count and not found.get(_DEPTH):
                return
        raise TimeoutError(f"the operator has not looked at {count} jobs in {timeout_s:.0f} s")

    def metrics(self) -> dict[str, float]:
        """What it measures of itself, by name and labels; nothing before it serves."""
        try:
            with urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:  # not there yet
            return {}
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}


@contextmanager
def an_operator(namespace: str, home: Path, *, speed: float | None = None) -> Iterator[Operator]:
    """The operator of this checkout, for one namespace; `speed` times as fast at rest, if given."""
    port = _free_port()
    images = [f"--{each}-image=stages:1" for each in ("trainer", "compressor", "server", "edge")]
    places = [f"--namespace={namespace}", "--leader-election-namespace=default"]
    ports = [f"--metrics-port={port}", f"--health-port={_free_port()}"]
    program = ["-m", "tunesmith_cli.main"]
    if speed is not None:
        program = [faster_operator.__file__, str(speed)]
    command = [*program, "operator", *images, *places, *ports]
    with running(ACCOUNT, command, home=home) as process:
        yield Operator(process.pid, port)


def a_job(name: str, *, claim: str | None = CLAIM) -> Manifest:
    """A small job, in the claim of that name or, without one, in a volume of its own."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "hf://org/model"},
            "dataset": {"train": {"uri": "s3://bucket/rows.jsonl"}},
            "output": {"model": "bench"},
            **({"workspace": {"claimName": claim}} if claim else {}),
        },
    }


def a_claim(namespace: str) -> Manifest:
    """The volume that the jobs share."""
    storage = {"requests": {"storage": "1Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": storage},
    }


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

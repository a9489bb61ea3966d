"""`tunesmith operator` as a process of its own, beside the control plane of the tests."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from cluster import Cluster
from command import free_port
from stage_pods import pending_pods

MAIN: Final = ("-m", "tunesmith_cli.main")


def a_job(name: str = "helpdesk", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "hf://org/model"},
            "dataset": {"train": {"uri": "file://rows.jsonl"}},
            "output": {"model": "helpdesk"},
            **spec,
        },
    }


@contextmanager
def an_operator(
    namespace: str,
    *flags: str,
    everywhere: bool = False,
    program: Sequence[str] = MAIN,
    **environment: str,
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The operator of one namespace, or of all, and the port of its metrics.

    `program` is what Python runs as the command `tunesmith`.
    """
    port = free_port()
    images = [f"--{each}-image=stages:1" for each in ("trainer", "compressor", "server", "edge")]
    place = f"--leader-election-namespace={namespace}"
    flags = flags if everywhere else (f"--namespace={namespace}", *flags)
    ports = [f"--metrics-port={port}", f"--health-port={free_port()}"]
    command = [sys.executable, *program, "operator", *images, place, *ports]
    command += flags
    with subprocess.Popen(command, env=os.environ | environment) as process:
        try:
            yield process, port
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for_pod(cluster: Cluster, *, timeout_s: float = 40) -> dict[str, Any]:
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        found = pending_pods(cluster)
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError("no pod came")

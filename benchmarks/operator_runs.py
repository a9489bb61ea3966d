"""Operators as processes of their own, each with an account of its own, and what they cost."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from control_plane import Manifest, apply, kubectl

ACCOUNTS = "default"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """Processor seconds so far, and MiB of resident memory now and at most."""

    cpu_s: float
    memory_mib: float
    peak_mib: float


def usage_of(pid: int) -> Usage:
    """What a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    lines = (line.split() for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    sizes = {line[0]: int(line[1]) for line in lines if line and line[0].startswith("Vm")}
    return Usage(
        cpu_s=(int(fields[11]) + int(fields[12])) / _TICKS,
        memory_mib=round(sizes["VmRSS:"] / 1024, 1),
        peak_mib=round(sizes["VmHWM:"] / 1024, 1),
    )


def user_of(account: str) -> str:
    """The account as the audit log names it."""
    return f"{ACCOUNTS}:{account}"


def give_rights(account: str, rules: list[Manifest]) -> None:
    """An account that may do this in the whole cluster."""
    rbac = "rbac.authorization.k8s.io"
    subject = {"kind": "ServiceAccount", "name": account, "namespace": ACCOUNTS}
    head = {"apiVersion": f"{rbac}/v1", "metadata": {"name": account}}
    role = {"apiGroup": rbac, "kind": "ClusterRole", "name": account}
    apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": ACCOUNTS},
        },
        head | {"kind": "ClusterRole", "rules": rules},
        head | {"kind": "ClusterRoleBinding", "subjects": [subject], "roleRef": role},
    )


@contextmanager
def running(account: str, command: list[Any], *, home: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The command, as this account; its log is in `home`."""
    environment = os.environ | {"KUBECONFIG": str(_kubeconfig(account, home))}
    with (
        (home / f"{account}.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()


def _kubeconfig(account: str, home: Path) -> Path:
    found = json.loads(kubectl("config", "view", "--raw", "--minify", "--output=json"))
    token = kubectl("create", "token", account, f"--namespace={ACCOUNTS}", "--duration=4h")
    found["users"] = [{"name": each["name"], "user": {"token": token}} for each in found["users"]]
    path = home / f"{account}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(found))
    return path

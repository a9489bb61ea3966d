"""A real API server for tests: its CRDs installed, a namespace for each test, and plain HTTP.

`kubectl proxy` carries every request, so that any kubeconfig works. Only a server on this machine
is used: tests install CRDs and delete what they made.
"""

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from tunesmith_api.kinds import KINDS

_LOCAL = {"127.0.0.1", "::1", "localhost"}
_PLURALS = {kind.name: kind.plural for kind in KINDS}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A client of one namespace, or of `default`."""

    http: httpx.Client
    namespace: str = "default"

    def create(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> httpx.Response:
        """POST, as `kubectl create` does."""
        return self.http.post(
            self.path(manifest["kind"]),
            params=_strictly(dry_run=dry_run),
            json=manifest,
        )

    def apply(self, manifest: Mapping[str, Any], *, dry_run: bool = False) -> httpx.Response:
        """Server-side apply, as `kubectl apply --server-side` and GitOps tools do."""
        return self.http.patch(
            f"{self.path(manifest['kind'])}/{manifest['metadata']['name']}",
            params={"fieldManager": "tests", **_strictly(dry_run=dry_run)},
            content=json.dumps(manifest),
            headers={"Content-Type": "application/apply-patch+yaml"},
        )

    def merge(
        self,
        kind: str,
        name: str,
        change: Mapping[str, Any],
        *,
        status: bool = False,
        dry_run: bool = False,
    ) -> httpx.Response:
        """Change some fields of an object, or of its status."""
        return self.http.patch(
            f"{self.path(kind)}/{name}{'/status' if status else ''}",
            params=_strictly(dry_run=dry_run),
            content=json.dumps(change),
            headers={"Content-Type": "application/merge-patch+json"},
        )

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """The object as it is stored."""
        found: dict[str, Any] = self.http.get(f"{self.path(kind)}/{name}").raise_for_status().json()
        return found

    def path(self, kind: str) -> str:
        """Where objects of a kind live."""
        group = "/apis/tunesmith.dev/v1alpha1"
        return f"{group}/namespaces/{self.namespace}/{_PLURALS[kind]}"

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What kubectl prints about this namespace."""
        return kubectl("--namespace", self.namespace, *arguments, stdin=stdin)


@contextmanager
def connected() -> Iterator[httpx.Client]:
    """A client of the API server that kubectl would speak to."""
    command = ["kubectl", "proxy", "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        try:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[-1]
            hooks = {"response": [_say_why]}
            with httpx.Client(base_url=f"http://{address}", timeout=30, event_hooks=hooks) as http:
                yield http
        finally:
            proxy.terminate()


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """What kubectl prints; fails if kubectl does."""
    done = subprocess.run(
        ["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def wait_until_established(*definitions: str, timeout_s: float = 60) -> None:
    """Return when the server serves what these definitions define.

    `kubectl wait` is of no use right after they were made: while they have no conditions at all it
    fails ("accessor error: <nil>").
    """
    end = time.monotonic() + timeout_s
    while not all(map(_is_established, definitions)):
        assert time.monotonic() < end, f"not established: {', '.join(definitions)}"
        time.sleep(0.1)


def _is_established(definition: str) -> bool:
    found = json.loads(kubectl("get", "crd", definition, "--output=json"))
    conditions = found.get("status", {}).get("conditions") or []
    return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)


def is_local() -> bool:
    """Whether kubectl would speak to a server on this machine."""
    server = kubectl(
        "config", "view", "--minify", "--output=jsonpath={.clusters[0].cluster.server}"
    )
    return urlsplit(server).hostname in _LOCAL


def _strictly(*, dry_run: bool) -> dict[str, str]:
    return {"fieldValidation": "Strict", **({"dryRun": "All"} if dry_run else {})}


def _say_why(answer: httpx.Response) -> None:
    """Have `raise_for_status` tell what the server said: its own words are the status alone."""
    if answer.is_error:
        answer.extensions["reason_phrase"] = answer.read()

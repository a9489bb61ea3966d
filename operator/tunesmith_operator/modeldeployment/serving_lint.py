"""The known traps of vLLM in Kubernetes, as rules over manifests: what they find is a fault.

Origins: docs/concept/serving.md. Pure, so that tests hold everything that is made to them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from tunesmith_operator.kube.objects import Manifest

# Each opens paths that change or stop the engine, and that no API key guards.
_DEVELOPMENT: Final = ("VLLM_SERVER_DEV_MODE", "VLLM_TORCH_PROFILER_DIR")
_PUBLIC: Final = "/v1"


def lint_serving(manifest: Manifest) -> list[str]:
    """What is wrong with a manifest of a served model; empty if nothing is."""
    rules = {"Deployment": _of_deployment, "HTTPRoute": _of_route, "Service": _of_service}
    rule = rules.get(manifest["kind"])
    return list(rule(manifest)) if rule else []


def _of_deployment(manifest: Manifest) -> Iterator[str]:
    spec = manifest["spec"]
    if spec.get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
        yield "strategy.rollingUpdate.maxUnavailable is not 0: a restart takes a replica first"
    pod = spec["template"]["spec"]
    server = pod["containers"][0]
    yield from _of_drain(pod, server)
    yield from _of_probes(server)
    yield from _of_environment(server)
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks is on: a Service named vllm becomes VLLM_PORT, which vLLM reads"
    memory = {
        volume["name"]
        for volume in pod.get("volumes", [])
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    }
    if not any(
        mount["mountPath"] == "/dev/shm" and mount["name"] in memory  # noqa: S108
        for mount in server.get("volumeMounts", [])
    ):
        yield "the shared memory is no volume: torch's workers have 64 MiB at /dev/shm"


def _of_drain(pod: Manifest, server: Manifest) -> Iterator[str]:
    hook = server.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
    deadline = _number_after("--deadline", hook)
    timeout = _number_after("--shutdown-timeout", server.get("command", []))
    if deadline is None:
        yield "preStop does not drain: SIGTERM comes while requests still arrive"
    if not timeout:
        yield "--shutdown-timeout is 0: vLLM aborts what runs at SIGTERM, and says 200"
    grace = pod.get("terminationGracePeriodSeconds", 30)
    if grace <= (deadline or 0) + (timeout or 0):
        yield (
            f"terminationGracePeriodSeconds is {grace}, no more than the {deadline} s of the drain "
            f"and the {timeout} s of vLLM's shutdown together: SIGKILL cuts answers off"
        )


def _of_probes(server: Manifest) -> Iterator[str]:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        path = server.get(probe, {}).get("httpGet", {}).get("path", "")
        if not path.startswith("/tunesmith/"):
            yield f"{probe} asks {path or 'nothing'}: /health is 200 while the engine hangs"
    liveness = server.get("livenessProbe", {})
    patience = liveness.get("periodSeconds", 10) * liveness.get("failureThreshold", 3)
    if liveness.get("timeoutSeconds", 1) < 10 or patience < 60:  # noqa: PLR2004 - llm-d-benchmark#1734
        yield "livenessProbe is impatient: a busy engine misses probes and is restarted"


def _of_environment(server: Manifest) -> Iterator[str]:
    variables: list[dict[str, Any]] = server.get("env", [])
    for variable in variables:
        if variable["name"] in _DEVELOPMENT and variable.get("value", "1") != "0":
            yield f"{variable['name']} opens paths that no API key guards"
        if variable["name"] == "VLLM_API_KEY" and "value" in variable:
            yield "VLLM_API_KEY is written out; refer to a secret"


def _of_route(manifest: Manifest) -> Iterator[str]:
    for rule in manifest["spec"].get("rules", []):
        paths = [match.get("path", {}) for match in rule.get("matches", [{}])]
        if any((path.get("type"), path.get("value")) != ("PathPrefix", _PUBLIC) for path in paths):
            yield f"a rule lets other paths than {_PUBLIC} in: an API key guards no other"


def _of_service(manifest: Manifest) -> Iterator[str]:
    if manifest["spec"].get("type", "ClusterIP") != "ClusterIP":
        yield "the Service is reached from outside, on paths that no API key guards"


def _number_after(option: str, command: Sequence[str]) -> float | None:
    if option not in command:
        return None
    return float(command[command.index(option) + 1])

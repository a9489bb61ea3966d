"""What Argo CD and Flux conclude: their own languages run over the engine's own conditions."""

import asyncio
from pathlib import Path
from typing import Any

import cel
import pytest
import yaml
from lupa.lua51 import LuaRuntime

from deployment_double import KEY, DeploymentDouble
from job_states import PHASES, job_in, new_job
from manifests import a_version
from tunesmith_api.crds import crds
from tunesmith_api.finetunejob.status import Phase

GITOPS = Path(__file__).parents[3] / "examples" / "gitops"
SCRIPTS: dict[str, str] = yaml.safe_load((GITOPS / "argocd" / "health.yaml").read_text())["data"]
PREFIX = "resource.customizations.health.tunesmith.dev_"

ARGO: dict[str, str] = {
    Phase.SUCCEEDED: "Healthy",
    Phase.FAILED: "Degraded",
    Phase.SUSPENDED: "Suspended",
}
FLUX: dict[str, str] = {Phase.SUCCEEDED: "Current", Phase.FAILED: "Failed"}


def argo(manifest: dict[str, Any]) -> dict[str, str]:
    """The health that a script gives; Argo CD runs Lua 5.1 and hands it the object as `obj`."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    lua.globals().obj = lua.table_from(manifest, recursive=True)
    return dict(lua.execute(SCRIPTS[PREFIX + manifest["kind"]]))


def flux(manifest: dict[str, Any]) -> str:
    """What Flux concludes, by the order of its RFC 0009.

    Generations first, then inProgress, failed, current. An expression that breaks for want of a
    field is tried again.
    """
    _, kustomization = yaml.safe_load_all((GITOPS / "flux" / "jobs.yaml").read_text())
    (rules,) = kustomization["spec"]["healthCheckExprs"]
    if "status" not in manifest:
        return "InProgress"
    if manifest["status"]["observedGeneration"] != manifest["metadata"]["generation"]:
        return "InProgress"
    for verdict in ("inProgress", "failed", "current"):
        if verdict in rules and cel.compile(rules[verdict]).execute(manifest):
            return verdict[0].upper() + verdict[1:]
    return "InProgress"


def test_argo_cd_has_a_script_for_each_kind() -> None:
    definitions: list[Any] = list(crds().values())
    kinds = {each["spec"]["names"]["kind"] for each in definitions}

    assert {key.removeprefix(PREFIX) for key in SCRIPTS} == kinds


@pytest.mark.parametrize("phase", PHASES)
def test_argo_cd_shows_each_phase_as_what_it_is(phase: str) -> None:
    health = argo(job_in(phase))

    assert health["status"] == ARGO.get(phase, "Progressing")
    assert "as it is" in health["message"]


def test_argo_cd_waits_for_an_operator_that_has_not_looked_yet() -> None:
    assert argo(new_job())["status"] == "Progressing"
    assert argo(new_job() | {"status": {}})["status"] == "Progressing"


def test_argo_cd_trusts_no_verdict_on_an_earlier_manifest() -> None:
    assert argo(job_in(Phase.SUCCEEDED, observed=0))["status"] == "Progressing"


def test_argo_cd_holds_a_record_for_healthy() -> None:
    assert argo(a_version())["status"] == "Healthy"


@pytest.mark.parametrize("phase", PHASES)
def test_flux_waits_for_the_end_and_fails_with_the_job(phase: str) -> None:
    assert flux(job_in(phase)) == FLUX.get(phase, "InProgress")


def test_flux_is_content_with_a_job_that_git_suspends() -> None:
    assert flux(job_in(Phase.SUSPENDED, suspend=True)) == "Current"


def test_flux_trusts_no_verdict_on_an_earlier_manifest() -> None:
    assert flux(job_in(Phase.FAILED, observed=0)) == "InProgress"
    assert flux(new_job()) == "InProgress"


def deployment(**spec: Any) -> DeploymentDouble:
    double = DeploymentDouble(**spec)
    double.publish("v1")
    look_at(double)
    return double


def look_at(double: DeploymentDouble, *, times: int = 8) -> None:
    async def run() -> None:
        for _ in range(times):
            await double.look()

    asyncio.run(run())


def test_argo_cd_shows_a_deployment_as_what_it_is() -> None:
    serving, starting = deployment(), DeploymentDouble()
    assert argo(starting.objects[KEY])["status"] == "Progressing"
    starting.publish("v1")
    look_at(starting, times=1)
    assert argo(starting.objects[KEY])["status"] == "Progressing"
    assert argo(serving.objects[KEY])["status"] == "Healthy"

    serving.change("ModelDeployment", "ns", "helpdesk", {"spec": {"replicas": 2}})
    assert argo(serving.objects[KEY])["status"] == "Progressing"
    serving.change("ModelDeployment", "ns", "helpdesk", {"spec": {"suspend": True}})
    look_at(serving)
    assert argo(serving.objects[KEY])["status"] == "Suspended"


def test_argo_cd_shows_a_version_that_cannot_be_had_although_another_serves() -> None:
    double = deployment()
    double.change("ModelDeployment", "ns", "helpdesk", {"spec": {"version": "v9"}})
    look_at(double)
    health = argo(double.objects[KEY])

    assert double.status["phase"] == "Serving"
    assert (health["status"], health["message"].split(":")[0]) == ("Degraded", "VersionNotFound")

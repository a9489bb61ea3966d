"""An API server in memory with one FineTuneJob, that notes every request of the operator."""

from collections.abc import Collection
from typing import Any

from api_double import ApiDouble, Manifest, Manifests
from clock import now_text
from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.stages.contracts import Environment, StageRequest, StageResult
from tunesmith_operator.controller.controller import Controller
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.finetunejob.child_names import REQUEST_ANNOTATION, shared_name
from tunesmith_operator.finetunejob.job_ref import JobRef
from tunesmith_operator.finetunejob.parsing import fingerprints_of
from tunesmith_operator.kube.events import EventRecorder
from tunesmith_operator.kube.objects import MANAGER
from tunesmith_operator.settings import Settings

SETTINGS = Settings(images=dict.fromkeys(Environment, "stages:1"))
KEY = Key("FineTuneJob", "ns", "helpdesk")
REPORT = ("ConfigMap", "ns", shared_name("helpdesk"))


class JobDouble(ApiDouble):
    """The server; `requests` holds a verb, a kind and a name each."""

    def __init__(self, *kinds: str, **spec: Any) -> None:
        super().__init__(*kinds)
        job = a_job(**spec)
        job["metadata"] |= {"namespace": "ns"}
        self.put(job)
        self.requests: list[str] = []
        self.recorder = EventRecorder(self)

    async def look(self, controller: Controller) -> float | None:
        """What a worker does with the key, and the Events that follow."""
        try:
            return await controller.reconcile(KEY)
        finally:
            await self.recorder.flush()

    @property
    def job(self) -> Manifest:
        return self.objects[KEY]

    @property
    def status(self) -> dict[str, Any]:
        """What the job says of itself."""
        status: dict[str, Any] = self.job.get("status", {})
        return status

    @property
    def owner(self) -> JobRef:
        return JobRef.of(self.job)

    @property
    def plan(self) -> Plan:
        job = FineTuneJob.model_validate({**self.job, "status": None})
        return plan(job, fingerprints=fingerprints_of(job.spec, uid=self.owner.uid))

    def asked(self, *verbs: str) -> list[str]:
        """The requests of these verbs so far, which are forgotten with all others."""
        requests = [request for request in self.requests if request.split()[0] in verbs]
        self.requests.clear()
        return requests

    def names(self, kind: str) -> list[str]:
        """What there is of a kind."""
        return [name for of_kind, _, name in self.objects if of_kind == kind]

    def report(
        self, request: StageRequest, *, outcome: Any = "Succeeded", **facts: Any
    ) -> StageResult:
        """The stage reports its result."""
        result = StageResult(
            stage=request.stage,
            key=request.key,
            attempt=request.attempt,
            outcome=outcome,
            reason="Succeeded" if outcome == "Succeeded" else "DatasetNotFound",
            facts=facts,
        )
        key = request.result.rsplit("/", 1)[1]
        self.change(*REPORT, {"data": {key: result.model_dump_json(by_alias=True)}})
        return result

    def end(self, name: str, condition: str = "Complete") -> None:
        """The Job of this name comes to its end."""
        conditions = [{"type": condition, "status": "True", "lastTransitionTime": now_text()}]
        self.change("Job", "ns", name, {"status": {"conditions": conditions}})

    def request_of(self, name: str) -> StageRequest:
        """What the Job of this name tells its stage."""
        template = self.objects["Job", "ns", name]["spec"]["template"]
        text = template["metadata"]["annotations"][REQUEST_ANNOTATION]
        return StageRequest.model_validate_json(text)

    async def get(
        self, kind: str, namespace: str, name: str, *, not_before: str = ""
    ) -> Manifest | None:
        self.requests.append(f"get {kind} {name}")
        return await super().get(kind, namespace, name, not_before=not_before)

    async def list(self, kind: str, namespace: str, *, labels: str) -> Manifests:
        self.requests.append(f"list {kind} {labels}")
        return await super().list(kind, namespace, labels=labels)

    async def apply(self, manifest: Manifest, *, manager: str = MANAGER) -> None:
        self.requests.append(f"apply {_named(manifest)}")
        await super().apply(manifest, manager=manager)

    async def patch_status(self, seen: Manifest, change: Manifest) -> str:
        self.requests.append(f"patch_status {_named(seen)}")
        return await super().patch_status(seen, change)

    async def patch(self, kind: str, namespace: str, name: str, change: Manifest) -> None:
        self.requests.append(f"patch {kind} {name}")
        await super().patch(kind, namespace, name, change)

    async def create(self, manifest: Manifest) -> bool:
        self.requests.append(f"create {_named(manifest)}")
        return await super().create(manifest)

    async def delete(
        self, kind: str, namespace: str, name: str, *, as_seen: Manifest | None = None
    ) -> None:
        self.requests.append(f"delete {kind} {name}")
        await super().delete(kind, namespace, name, as_seen=as_seen)

    async def workloads(self, namespace: str, *, of_uid: str) -> Manifests | None:
        self.requests.append(f"workloads {of_uid}")
        return await super().workloads(namespace, of_uid=of_uid)

    async def warnings(self, namespace: str, *, of_uid: str) -> Manifests:
        self.requests.append(f"warnings {of_uid}")
        return await super().warnings(namespace, of_uid=of_uid)


def _named(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


WRITES: Collection[str] = ("apply", "patch", "patch_status", "create", "delete")
READS: Collection[str] = ("get", "list", "workloads", "warnings")

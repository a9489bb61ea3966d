"""Where the pods of a job may run, in which queue they wait, and what they ask of a node.

Pure functions from the job's `resources` to parts of a pod; `manifests.py` puts them together. What
a queue of Kueue adds to a pod, node labels and tolerations of its own, is never written here.
"""

from collections.abc import Iterable
from typing import Final

from kubernetes.utils.quantity import parse_quantity

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.capacity import accelerator_memory
from tunesmith_engine.estimates import workload_of
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import GivenMemory, StageName, StageResult
from tunesmith_engine.stages.stage import Compute, Stage
from tunesmith_operator.kube.kueue import QUEUE_LABEL
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.restricted_pod import placement_fields

DEFAULT_CPU: Final = "1"
DEFAULT_MEMORY: Final = "2Gi"
LEAST_MEMORY: Final = 512 << 20

# How nodes say that they can be taken away: GKE, AKS, EKS' node groups, Karpenter. Each is the
# label of such nodes and, where they are tainted, the taint.
SPOT_MARKS: Final = (
    ("cloud.google.com/gke-spot", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
    ("eks.amazonaws.com/capacityType", "SPOT"),
    ("karpenter.sh/capacity-type", "spot"),
)


def placement_of(resources: Resources) -> Manifest:
    """The fields of a pod that say where it may run; those that nobody asked for are left out."""
    placed = placement_fields(resources)
    if not resources.spot:
        return placed
    # Each provider taints with its own mark; a toleration of what no node has does no harm.
    spot = [
        {"key": key, "operator": "Equal", "value": value, "effect": "NoSchedule"}
        for key, value in SPOT_MARKS
    ]
    tolerations = [*placed.get("tolerations", []), *spot]
    return {**placed, "tolerations": tolerations, "affinity": _spot_affinity()}


def queue_labels(spec: FineTuneJobSpec) -> dict[str, str]:
    """The label by which Kueue takes charge of a child, if the job asks for a queue."""
    return {QUEUE_LABEL: spec.queue_name} if spec.queue_name else {}


def queue_hold(spec: FineTuneJobSpec) -> Manifest:
    """A child that names a queue waits from its creation, even where Kueue is not at work."""
    return {"suspend": True} if spec.queue_name else {}


def demands_of(
    stage: Stage, spec: FineTuneJobSpec, *, prepared: StageResult | None, workers: int = 1
) -> Manifest:
    """What the container of a stage asks for; `workers` of a distributed one share one pod.

    `prepared` is what `prepare` found out, for the estimate of memory; None before it is done.

    Processors and memory are asked for without a limit: an estimate that is a little low then costs
    no attempt. Accelerators cannot be asked for in any other way.
    """
    held = min(workers, stage.num_workers(spec.resources))
    asked = spec.resources.model_copy(update={"workers": held})
    spec = spec.model_copy(update={"resources": asked})
    memory = _times(asked.memory, held) if asked.memory else _memory(stage, spec, prepared)
    demands: Manifest = {
        "requests": {"cpu": _times(asked.cpu or DEFAULT_CPU, held), "memory": memory}
    }
    accelerators = stage.num_accelerators(spec)
    if accelerators:
        demands["limits"] = {asked.accelerator: str(accelerators)}
    return demands


def given_memory(stages: Iterable[Stage], spec: FineTuneJobSpec) -> dict[StageName, GivenMemory]:
    """What the stages after `prepare` are sure to get, by which it judges them.

    Without `resources.memory` a stage asks for its estimate. Where it computes on accelerators,
    those hold what the estimate counts, and `resources.memory` says nothing of them.
    """
    resources = spec.resources
    given: dict[StageName, GivenMemory] = {}
    held = accelerator_memory(resources)
    for stage in stages:
        if stage.name == PREPARE.name:
            continue
        if not stage.num_accelerators(spec):
            if resources.memory:
                workers = stage.num_workers(resources)
                size = int(parse_quantity(resources.memory))  # type: ignore[no-untyped-call]
                shared = f" for each of {workers} workers" if workers > 1 else ""
                given[stage.name] = GivenMemory(
                    size_bytes=size * workers,
                    given_by=f"resources.memory: {resources.memory}{shared}",
                )
        elif held and stage.compute is Compute.WORKERS:
            size, field = held
            given[stage.name] = GivenMemory(
                size_bytes=size, given_by=field, is_per_accelerator=True
            )
    return given


def _memory(stage: Stage, spec: FineTuneJobSpec, prepared: StageResult | None) -> str:
    """The estimate, in bytes, from what prepare found out about the model and the rows."""
    workload = workload_of(spec, prepared) if prepared else None
    if workload is None:
        return DEFAULT_MEMORY
    return str(max(LEAST_MEMORY, stage.memory(workload)))


# Of the quantity as it was written: what people asked for is what `kubectl describe` shows them.
def _times(quantity: str, count: int) -> str:
    unit = quantity.lstrip("0123456789")
    return f"{int(quantity.removesuffix(unit)) * count}{unit}"


def _spot_affinity() -> Manifest:
    """Nodes with any of the marks come first; others do where there are none."""
    preferred = [
        {
            "weight": 100,
            "preference": {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]},
        }
        for key, value in SPOT_MARKS
    ]
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}

"""Pods of a base: what each is told to hold, again and again, and how its adapters are."""

from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith_engine.deployment.adapter_hosts import adapters_on
from tunesmith_engine.deployment.adapter_list import AdapterList
from tunesmith_engine.deployment.observations import Desired
from tunesmith_engine.deployment.replica_report import ReplicaReport
from tunesmith_operator.modeldeployment.model_files import folder_on_volume


@dataclass(frozen=True, slots=True)
class BasePod:
    """A pod of the base `revision` that answers at `address`, and what it said last."""

    revision: str
    address: str
    report: ReplicaReport


def lists_to_tell(
    pods: Mapping[str, BasePod], desired: Desired
) -> dict[str, tuple[str, AdapterList]]:
    """Address and list for each pod that holds something else than it should, by its name.

    A process that was started anew holds nothing, and says so.
    """
    wanted = {
        host: adapters_on(host, desired.revisions, route=desired.route, folder_of=folder_on_volume)
        for host in {pod.revision for pod in pods.values()}
    }
    return {
        name: (pod.address, wanted[pod.revision])
        for name, pod in pods.items()
        if pod.report.adapter_list != wanted[pod.revision]
    }

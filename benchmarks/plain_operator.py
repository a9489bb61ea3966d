"""The peer: an operator as the documentation of kopf shows one, a Job made in the handler.

Run with the name of its namespace. It uses the usual client in a handler that is a plain function,
with kopf's own settings.
"""

import sys
from typing import Any

import kopf
import kubernetes

GROUP = "bench.tunesmith.dev"


@kopf.on.startup()
def connect(**_: Any) -> None:
    """Read the kubeconfig."""
    kubernetes.config.load_kube_config()  # type: ignore[no-untyped-call]


@kopf.on.create(GROUP, "v1", "plainjobs")
def make_job(spec: Any, name: Any, namespace: Any, **_: Any) -> None:
    """Make the Job that the object describes."""
    job: Any = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": dict(spec["template"])},
    }
    kopf.adopt(job)
    kubernetes.client.BatchV1Api().create_namespaced_job(namespace, job)


if __name__ == "__main__":
    kopf.run(namespaces=[sys.argv[1]], standalone=True)

"""The definitions and the leavings of an older release, for tests that upgrade and roll back.

`tests/cluster/older_release.json` has what an operator of that release wrote in the middle of a
training, taken from a run of it, and the fields that its definitions lack.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, Final

from cluster import Cluster, kubectl
from crowd import wait_until
from operator_process import a_job
from tunesmith_api.base import JsonMapping
from tunesmith_api.crds import crds, crds_yaml
from tunesmith_api.yaml_io import write_yaml
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, shared_name
from tunesmith_operator.kube.objects import MANAGED_BY, MANAGER

Json = dict[str, Any]

OLDER: Final[Json] = json.loads(
    (Path(__file__).parents[1] / "cluster" / "older_release.json").read_text(encoding="utf-8")
)
# A field of ours that the older release lacks.
NEW_FIELD: Final[Json] = {"training": {"packing": "none"}}


def older_definitions() -> str:
    """Today's definitions without what the older release lacks, nor any rules."""
    return "---\n".join(write_yaml(_older(each)) for each in crds().values())


def install(definitions: str, *, knows_new_fields: bool) -> None:
    """Replace the definitions, and wait until the server goes by them."""
    kubectl("apply", "--server-side", "--force-conflicts", "--filename=-", stdin=definitions)
    probe = json.dumps(a_job("probe", **NEW_FIELD))

    def is_in_force() -> bool:
        dry = ("create", "--dry-run=server", "--validate=strict", "--filename=-")
        try:
            kubectl(*dry, stdin=probe)
        except AssertionError:
            return not knows_new_fields
        return knows_new_fields

    wait_until(is_in_force, timeout_s=60)


def upgrade() -> None:
    """Install the definitions of this release."""
    install(crds_yaml(), knows_new_fields=True)


def roll_back() -> None:
    """Install those of the older one."""
    install(older_definitions(), knows_new_fields=False)


@contextmanager
def older_release() -> Iterator[None]:
    """The older definitions, for as long as the context lasts if no test upgrades before."""
    roll_back()
    try:
        yield
    finally:
        upgrade()


def leave_in_training(cluster: Cluster) -> Json:
    """What the older operator left: a job whose training runs, as `helpdesk--train-1-f224b`."""
    cluster.create(a_job()).raise_for_status()
    status = {"status": OLDER["status"]}
    cluster.merge("FineTuneJob", "helpdesk", status, status=True).raise_for_status()
    job = cluster.get("FineTuneJob", "helpdesk")
    stage = next(each for each in OLDER["status"]["stages"] if each["name"] == "train")
    report: Json = {"apiVersion": "v1", "kind": "ConfigMap", "data": OLDER["report"]}
    claim: Json = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    container = {"name": "stage", "image": "stages:0"}
    pod = {"restartPolicy": "Never", "containers": [container]}
    child: Json = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {"labels": {LABEL_JOB: "helpdesk"}}, "spec": pod},
        },
    }
    name = f"helpdesk--train-1-{stage['key'][:5]}"
    for each, called in ((report, None), (claim, None), (child, name)):
        made = each | {"metadata": _owned(job, called or shared_name("helpdesk"))}
        cluster.kubectl("create", "--filename=-", stdin=json.dumps(made))
    return job


def _owned(job: Json, name: str) -> Json:
    known = job["metadata"]
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "controller": True}
    owner |= {"name": known["name"], "uid": known["uid"], "blockOwnerDeletion": False}
    labels = {LABEL_JOB: known["name"], MANAGED_BY: MANAGER}
    return {"name": name, "labels": labels, "ownerReferences": [owner]}


def _older(definition: JsonMapping) -> JsonMapping:
    older: Any = deepcopy(definition)
    schema = older["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path in OLDER["unknownFields"][older["spec"]["names"]["kind"]]:
        *parents, name = path.split(".")
        node = schema
        for part in parents:
            node = node["items"] if part == "*" else node["properties"][part]
        del node["properties"][name]
    _tidy(schema)
    return dict(older)


def _tidy(schema: Json) -> None:
    """Take out rules, which name fields that are gone, and defaults of such fields."""
    schema.pop("x-kubernetes-validations", None)
    if "default" in schema:
        schema["default"] = _pruned(schema["default"], schema)
    below = [*schema.get("properties", {}).values()]
    below += [schema[each] for each in ("items", "additionalProperties") if each in schema]
    for each in below:
        if isinstance(each, dict):
            _tidy(each)


def _pruned(value: Any, schema: Json) -> Any:
    fields = schema.get("properties")
    if not isinstance(value, dict) or fields is None:
        return value
    return {name: _pruned(each, fields[name]) for name, each in value.items() if name in fields}

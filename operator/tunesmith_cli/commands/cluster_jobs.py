"""The commands of `kubectl tunesmith`: `jobs`, `status`, `logs` and `retry` in a cluster."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from tunesmith_cli.commands import retry
from tunesmith_cli.commands.status import status_as_text
from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, CommandError
from tunesmith_cli.job_list import NamedStatus, jobs_as_text, status_as_json, told_jobs
from tunesmith_cli.kubectl import (
    Json,
    Kubectl,
    KubectlError,
    require_name,
)
from tunesmith_cli.terminal.style import style_of
from tunesmith_operator.finetunejob.child_names import LABEL_JOB, LABEL_STAGE


def run(options: argparse.Namespace) -> int:
    """Do what the plugin was asked for.

    Raises:
        CommandError: the cluster cannot be asked, or refuses; there is no such job.
    """
    if options.job is not None:
        require_name(options.job)
    try:
        cluster = Kubectl(options.context)
        namespace = options.namespace or _own_namespace(cluster)
        require_name(namespace)
        return _ACTIONS[options.action](options, namespace, cluster)
    except KubectlError as error:
        raise CommandError(str(error), code=EXIT_FAILED) from error


def _jobs(options: argparse.Namespace, namespace: str, cluster: Kubectl) -> int:
    everywhere = options.all_namespaces
    place = ("--all-namespaces",) if everywhere else ("--namespace", namespace)
    objects = cluster.json("get", "finetunejobs", *place)["items"]
    jobs = [_named(told, with_namespace=everywhere) for told in objects]
    if options.output == "json":
        print(json.dumps({"jobs": [status_as_json(job) for job in jobs]}, indent=1))
    elif jobs:
        print(jobs_as_text(jobs, now=datetime.now(UTC)))
    else:
        where = "the cluster" if everywhere else f"namespace {namespace}"
        print(f"no jobs in {where}; begin one with: kubectl apply -f job.yaml")
    return EXIT_DONE


def _status(options: argparse.Namespace, namespace: str, cluster: Kubectl) -> int:
    job = _named(cluster.json("get", "finetunejob", options.job, "--namespace", namespace))
    if options.output == "json":
        print(json.dumps(status_as_json(job), indent=1))
    else:
        print(status_as_text(job, style=style_of(sys.stdout)))
    return EXIT_DONE


def _logs(options: argparse.Namespace, namespace: str, cluster: Kubectl) -> int:
    selector = f"{LABEL_JOB}={options.job}"
    if options.stage is not None:
        selector += f",{LABEL_STAGE}={options.stage}"
    place = ("--namespace", namespace)
    pods = cluster.json("get", "pods", "--selector", selector, *place)["items"]
    pods.sort(key=lambda pod: pod["metadata"]["creationTimestamp"])
    if not pods:
        raise CommandError(
            f"no pod of {options.stage or 'any stage'} of job '{options.job}' in namespace "
            f"{namespace}; see: kubectl tunesmith status {options.job} -n {namespace}"
        )
    code = EXIT_DONE
    for pod in pods:
        name, stage = pod["metadata"]["name"], pod["metadata"]["labels"][LABEL_STAGE]
        print(f"==> {stage}, pod {name} <==")
        if pod.get("status", {}).get("phase", "Pending") == "Pending":
            print(f"{name} has not started", file=sys.stderr)
            continue
        follow = ("--follow",) if options.follow and pod is pods[-1] else ()
        code = cluster.through("logs", name, *place, *follow) or code
    return EXIT_FAILED if code else EXIT_DONE


def _retry(options: argparse.Namespace, namespace: str, cluster: Kubectl) -> int:
    return retry.request(options.job, namespace=namespace, cluster=cluster)


_ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace, str, Kubectl], int]]] = {
    "jobs": _jobs,
    "status": _status,
    "logs": _logs,
    "retry": _retry,
}


def _named(told: Json, *, with_namespace: bool = False) -> NamedStatus:
    try:
        (job,) = told_jobs([told])
    except ValidationError as error:
        problem = error.errors()[0]
        raise CommandError(
            f"'{told['metadata']['name']}' is of another release: {problem['loc']} "
            f"{problem['msg']}; use the command of the operator's release",
            code=EXIT_FAILED,
        ) from error
    if not with_namespace:
        return job
    namespace = told["metadata"]["namespace"]
    return NamedStatus(f"{namespace}/{job.name}", job.status, is_running=job.is_running)


def _own_namespace(cluster: Kubectl) -> str:
    """The namespace of kubectl's context."""
    view = ("config", "view", "--minify", "--output=jsonpath={..namespace}")
    return cluster.text(*view).strip() or "default"

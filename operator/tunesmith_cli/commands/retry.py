"""`tunesmith retry`: a failed job of a cluster is taken up again, by an annotation."""

import argparse
from datetime import UTC, datetime
from pathlib import Path

from tunesmith_api.finetunejob.job import RETRY_ANNOTATION
from tunesmith_api.finetunejob.status import Phase
from tunesmith_cli.errors import EXIT_DONE, EXIT_FAILED, CommandError
from tunesmith_cli.kubectl import Kubectl, KubectlError, require_name
from tunesmith_engine.local.home_folder import HomeFolder


def run(options: argparse.Namespace) -> int:
    """Ask for the retry; the operator does the rest.

    Raises:
        CommandError: the job is of this machine, is not there, or has not failed.
    """
    name: str = options.job
    require_name(name)
    if options.namespace is None:
        _refuse_local(name, root=options.home)
    else:
        require_name(options.namespace)
    return request(name, namespace=options.namespace, cluster=Kubectl())


def request(name: str, *, namespace: str | None, cluster: Kubectl) -> int:
    """Annotate the job, in the context's own namespace by default.

    Raises:
        CommandError: the job is not there, has not failed, or cannot be annotated.
    """
    place = [] if namespace is None else ["--namespace", namespace]
    try:
        job = cluster.json("get", "finetunejob", name, *place)
    except KubectlError as error:
        raise CommandError(f"no job '{name}' is seen: {error}") from error
    phase = job.get("status", {}).get("phase", Phase.PENDING)
    if phase != Phase.FAILED:
        raise CommandError(f"'{name}' is {phase}; only a job that has failed can be taken up again")
    # Another value at each call is all that counts; the time tells people when it was.
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    try:
        annotation = f"{RETRY_ANNOTATION}={now}"
        cluster.text("annotate", "finetunejob", name, *place, "--overwrite", annotation)
    except KubectlError as error:
        raise CommandError(f"'{name}' cannot be annotated: {error}", code=EXIT_FAILED) from error
    watch = " ".join(["kubectl get finetunejob", name, *place, "--watch"])
    print(f"{name}: the operator takes it up again, and repeats nothing that is done; see: {watch}")
    return EXIT_DONE


def _refuse_local(name: str, *, root: Path) -> None:
    """Say what a retry is on this machine, where the job was run on it."""
    home = HomeFolder(root)
    if name in home.list_jobs():
        raise CommandError(
            f"'{name}' was run on this machine, where a retry is to run it again: mend the cause, "
            "then tunesmith run FILE; what is done is not repeated. A job of a cluster: give "
            "--namespace"
        )

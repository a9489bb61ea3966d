"""The names and labels of what the operator makes: the same job always gives the same ones.

A start that is repeated, after a crash or by a second replica, so finds what the first has made.
"""

from typing import Final

LABEL_JOB: Final = "tunesmith.dev/job"
LABEL_STAGE: Final = "tunesmith.dev/stage"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "tunesmith-operator"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
REQUEST_ANNOTATION: Final = "tunesmith.dev/request"

# What the chart's policy knows by these names, too.
STAGES_ACCOUNT: Final = "tunesmith-stages"
REPORT_POLICY: Final = "stage-reports.tunesmith.dev"
JOB_MARK: Final = "--"


def attempt_name(job: str, *, stage: str, attempt: int, key: str) -> str:
    """The name of the batch Job of one attempt, with which the names of its pods begin.

    A job's name has at most 40 characters, so this stays below the 63 of a label, and what the
    server cuts off a pod's name comes after the mark that ends the job's. The part of the key keeps
    apart what two releases of Tunesmith would do.
    """
    return f"{job}{JOB_MARK}{stage}-{attempt}-{key[:5]}"


def attempt_parts(name: str) -> tuple[str, int, str]:
    """Stage, number and the part of the key that the name of an attempt ends with."""
    stage, attempt, key = name.rpartition(JOB_MARK)[2].split("-")
    return stage, int(attempt), key


def family_name(job: str) -> str:
    """The name of what a job has once: report, workspace, and its own identity if it has one."""
    return f"{job}-tunesmith"


def report_key(stage: str, attempt: int, kind: str) -> str:
    """The key of the report under which an attempt tells its `progress` or `result`."""
    return f"{stage}-{attempt}.{kind}"

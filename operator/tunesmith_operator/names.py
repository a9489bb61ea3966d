"""The names and labels of what the operator makes: the same job always gives the same ones.

A start that is repeated, after a crash or by a second replica, so finds what the first has made.
"""

from typing import Final

LABEL_JOB: Final = "tunesmith.dev/job"
LABEL_STAGE: Final = "tunesmith.dev/stage"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "tunesmith-operator"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"


def attempt_name(job: str, *, stage: str, attempt: int, key: str) -> str:
    """The name of the batch Job, and of the request, of one attempt.

    A job's name has at most 40 characters, so this stays below the 63 of a label. The part of the
    key keeps apart what two releases of Tunesmith would do.
    """
    return f"{job}-{stage}-{attempt}-{key[:5]}"


def family_name(job: str) -> str:
    """The name of what a job has once: identity, role, report and workspace."""
    return f"{job}-tunesmith"


def report_key(stage: str, attempt: int, kind: str) -> str:
    """The key of the report under which an attempt tells its `progress` or `result`."""
    return f"{stage}-{attempt}.{kind}"

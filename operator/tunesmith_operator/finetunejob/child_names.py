"""The names and labels of what is made for a job: the same job always gives the same ones.

A start that is repeated, after a crash or by a second replica, so finds what the first has made.
"""

import re
from typing import Final

LABEL_JOB: Final = "tunesmith.dev/job"
LABEL_STAGE: Final = "tunesmith.dev/stage"
REQUEST_ANNOTATION: Final = "tunesmith.dev/request"

# What the chart's policy knows by these names, too: a test renders the chart and compares.
STAGES_ACCOUNT: Final = "tunesmith-stages"
REPORT_POLICY: Final = "stage-reports.tunesmith.dev"
# Ends the job's part of a name. The policy takes it for the end of the job's name in a pod's.
JOB_MARK: Final = "--"

# KubeRay refuses longer names of RayJobs, and those that do not begin with a letter.
MAX_RAYJOB_NAME: Final = 47
# What is left of them for an attempt's number and part of its key, after a job's 40 and the mark.
_SHORT_END: Final = 5
_KEY_PART: Final = 5
# NB: a stage may write any key. Of more digits no attempt has a number.
_REPORT_KEY: Final = re.compile(r"([A-Za-z]+)-([0-9]{1,9})-[0-9a-f]{5}\.(?:progress|result)")


def attempt_name(job: str, *, stage: str, attempt: int, key: str) -> str:
    """The name of the batch Job of one attempt, with which the names of its pods begin."""
    # A job's name has at most 40 characters, so this stays below the 63 of a label, and what the
    # server cuts off a pod's name comes after the mark. The part of the key keeps apart what two
    # releases of Tunesmith would do.
    return f"{job}{JOB_MARK}{stage}-{attempt}-{key[:_KEY_PART]}"


def attempt_parts(name: str) -> tuple[str, int, str]:
    """Stage, number and the part of the key that the name of an attempt ends with.

    The short name of a RayJob stands for an attempt of training: whatever its stage is, this one
    has that same name, too.
    """
    end = name.rpartition(JOB_MARK)[2]
    if "-" not in end:
        attempt, _, key = end.partition("r")
        return "train", int(attempt), key
    stage, attempt, key = end.split("-")
    return stage, int(attempt), key


def rayjob_name(job: str, *, stage: str, attempt: int, key: str) -> str:
    """The name of the RayJob of one attempt; `may_be_rayjob` holds for the job."""
    name = attempt_name(job, stage=stage, attempt=attempt, key=key)
    if len(name) <= MAX_RAYJOB_NAME:
        return name
    # "r" is no hexadecimal digit, so number and key cannot run into each other. There is no room
    # for the stage; its key is another than those of all others.
    return f"{job}{JOB_MARK}{f'{attempt}r{key}'[:_SHORT_END]}"


def may_be_rayjob(job: str) -> bool:
    """Whether KubeRay takes names that begin with that of the job."""
    return job[0].isalpha()


def shared_name(job: str) -> str:
    """The name of what all stages of a job share: report, workspace, identity if it has its own."""
    return f"{job}-tunesmith"


def report_key(stage: str, attempt: int, kind: str, *, key: str) -> str:
    """The key of the report under which an attempt tells its `progress` or `result`."""
    # The part of the stage's key keeps apart what a pod of a deleted job of this name may still say
    return f"{stage}-{attempt}-{key[:_KEY_PART]}.{kind}"


def reporting_attempt(report_key: str) -> tuple[str, int] | None:
    """Stage and number of the attempt that reports under this key; None for a key of others."""
    told = _REPORT_KEY.fullmatch(report_key)
    return (told[1], int(told[2])) if told else None

"""What the command says to do about a reason is what the pages about failures say."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import BaseModel

from tunesmith_api.conditions import ConditionType
from tunesmith_api.field_paths import record_at
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase, StageStatus
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.reasons import Reason
from tunesmith_cli.hints import HINTS, diagnose, hint_for
from tunesmith_engine.conditions import make_condition

TASKS = Path(__file__).parents[3] / "docs" / "task"
PAGES = (TASKS / "when-a-job-fails.md", TASKS / "when-a-rollout-stops.md")
HEALTHY = {
    Reason.PENDING,
    Reason.RUNNING,
    Reason.CACHED,
    Reason.SUCCEEDED,
    Reason.DEPLOYING,
    Reason.ANALYZING,
    Reason.PROMOTING,
    Reason.PROMOTED,
    Reason.DRAINING,
    Reason.SERVING,
    Reason.FINGERPRINTS_MATCH,
    Reason.BIAS_AS_RELEASED,
    Reason.TRAFFIC_AS_REFERENCE,
    Reason.WITHIN_ERROR_BUDGET,
}


def hints_of_the_pages() -> dict[str, str]:
    """The last column of the pages' tables by each reason in its first, without Markdown."""
    hints: dict[str, str] = {}
    for line in "\n".join(page.read_text(encoding="utf-8") for page in PAGES).splitlines():
        if line.startswith("| `"):
            reasons, _, hint = (cell.strip() for cell in line.strip("|").split("|"))
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", hint).replace("`", "")
            hints |= dict.fromkeys(re.findall(r"`(\w+)`", reasons), text)
    return hints


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason not in HEALTHY])
def test_the_command_and_the_pages_give_the_same_advice(reason: Reason) -> None:
    assert hint_for(reason) == hints_of_the_pages()[reason]


def test_every_field_that_advice_names_is_one() -> None:
    named = {
        path for hint in HINTS.values() for path in re.findall(r"\b[a-z]\w+(?:\.[a-z]\w*)+", hint)
    }
    specs = (FineTuneJob, ModelDeployment)

    assert len(named) > 20
    named.remove("spec.active")  # of Kueue's Workload
    assert [path for path in named if not any(is_field(of, path) for of in specs)] == []


def is_field(kind: type[BaseModel], path: str) -> bool:
    *above, name = path.removeprefix("spec.").split(".")
    record = record_at(kind, ("spec", *above))
    return record is not None and any(of.alias == name for of in record.model_fields.values())


# What the manifest can mend; the rest is up to data, machine, cluster, or nobody.
MENDED_BY_A_FIELD = (
    Reason.DATASET_NOT_FOUND,
    Reason.BASE_MODEL_NOT_FOUND,
    Reason.MODEL_ACCESS_DENIED,
    Reason.DATASET_INVALID,
    Reason.CHAT_TEMPLATE_MISSING,
    Reason.LOSS_MASK_INVALID,
    Reason.MEMORY_ESTIMATE_EXCEEDED,
    Reason.DISK_ESTIMATE_EXCEEDED,
    Reason.RESOURCES_UNAVAILABLE,
    Reason.LOSS_DIVERGED,
    Reason.FORGETTING_BUDGET_EXCEEDED,
    Reason.EVALUATION_GATE_FAILED,
    Reason.COMPRESSION_LOSS_EXCEEDED,
    Reason.SERVING_PARITY_FAILED,
    Reason.OUTPUT_CONFLICT,
    Reason.OUT_OF_MEMORY,
    Reason.HOST_OOM_KILLED,
    Reason.UNSCHEDULABLE,
    Reason.EXCEEDS_MAX_QUOTA,
)


@pytest.mark.parametrize("reason", MENDED_BY_A_FIELD)
def test_advice_names_the_field_to_change_and_how(reason: Reason) -> None:
    assert re.search(r"\b(lower|raise|set|correct|change)\b", hint_for(reason))
    assert re.search(r"\b[a-z]\w+\.[a-z]\w*", hint_for(reason))


@pytest.mark.parametrize("reason", [*sorted(HEALTHY), "OfALaterVersion"])
def test_there_is_nothing_to_do_about_what_is_healthy(reason: str) -> None:
    assert hint_for(reason) == ""


def a_stopped_job(at: str, *, reason: Reason, attempt: int = 1) -> FineTuneJobStatus:
    """A job whose stages before `at` are done, stopped in attempt `attempt` of that one."""
    names = ("prepare", "train", "evaluate", "publish")
    stages = [
        StageStatus(name=name, key=name, state="Succeeded" if done else "Pending", attempt=number)
        for name, done, number in (
            (name, names.index(name) < names.index(at), attempt if name == at else 0)
            for name in names
        )
    ]
    ready = make_condition(
        ConditionType.READY, is_true=False, reason=reason, message="", now=datetime.now(UTC)
    )
    return FineTuneJobStatus(phase=Phase.SUSPENDED, stages=stages, conditions=[ready])


@pytest.mark.parametrize(
    ("at", "attempt", "said"),
    [
        (
            "prepare",
            1,
            "the same command goes on from the last checkpoint of prepare, if it has one",
        ),
        ("train", 1, "the same command goes on from the last checkpoint of train, if it has one"),
        ("train", 0, "the same command goes on with train"),
        ("evaluate", 2, "the same command begins evaluate again; the stages before it are done"),
    ],
)
def test_an_interrupted_job_is_told_what_its_stage_goes_on_from(
    at: str, attempt: int, said: str
) -> None:
    assert diagnose(a_stopped_job(at, reason=Reason.INTERRUPTED, attempt=attempt)).hint == said


def test_a_suspended_job_is_promised_no_checkpoint_that_its_stage_has_not() -> None:
    hint = diagnose(a_stopped_job("evaluate", reason=Reason.SUSPENDED)).hint

    assert hint == "set suspend: false: it begins evaluate again; the stages before it are done"


def test_a_stage_of_a_later_version_has_the_advice_for_all() -> None:
    status = a_stopped_job("prepare", reason=Reason.INTERRUPTED)
    status.stages[0] = status.stages[0].model_copy(update={"name": "polish"})

    assert diagnose(status).hint == hint_for(Reason.INTERRUPTED)

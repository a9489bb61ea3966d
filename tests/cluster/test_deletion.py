"""A job is deleted in each phase of its life: it goes, and leaves nothing behind."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from births import Births, watched_births
from crowd import Crowd, a_crowd, wait_until
from held_jobs import Ours, operator_behind
from job_states import PHASES
from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.stages.catalog import (
    CROSSVAL,
    DISTILL,
    DRAFT,
    EXPLAIN,
    EXPORT,
    REHEARSE,
    SEARCH,
    SYNTHESIZE,
    TRAIN,
)

TRAIN_ROWS = {"uri": "s3://tickets/a.jsonl"}
# What brings a job into a phase that is not on the way of every job.
SPECS: dict[str, dict[str, Any]] = {
    Phase.QUEUED: {"queueName": "team"},
    Phase.FAILED: {"activeDeadlineSeconds": 1},
    SYNTHESIZE.phase: {"dataset": {"train": TRAIN_ROWS, "synthesis": {}}},
    SEARCH.phase: {
        "search": {"parameters": [{"field": "training.lora.rank", "values": [8, 16]}]},
    },
    CROSSVAL.phase: {"crossValidation": {}},
    EXPLAIN.phase: {"evaluation": {"explain": {}}},
    EXPORT.phase: {"export": {"formats": [{"format": "onnx", "precision": "int4"}]}},
    DISTILL.phase: {"compression": {"prune": {}}},
    DRAFT.phase: {"serving": {"speculative": {"method": "draftModel"}}},
    REHEARSE.phase: {
        "dataset": {
            "train": TRAIN_ROWS,
            "replay": {"selfSynthesis": {}},
        }
    },
}
STANDING = {Phase.QUEUED, Phase.FAILED, Phase.SUSPENDED}

pytestmark = pytest.mark.xdist_group("deletion")  # one operator for all


@pytest.fixture(scope="module")
def crowd(server: httpx.Client) -> Iterator[Crowd]:
    """No jobs yet, and an operator."""
    with a_crowd(server) as crowd, operator_behind(Ours(crowd.home), crowd, server):
        yield crowd


@pytest.fixture(scope="module")
def births(server: httpx.Client, crowd: Crowd) -> Iterator[Births]:
    with watched_births(server, crowd.home) as births:
        yield births


def bring(crowd: Crowd, namespace: str, phase: str) -> None:
    """Let the namespace's job be in the phase."""
    if phase == Phase.PENDING:
        return  # it is so from its creation, until the operator looks at it
    if phase == Phase.SUSPENDED:
        crowd.play(until=lambda: crowd.phases()[namespace] == TRAIN.phase)
        crowd.suspend(namespace, is_on=True)
    if phase in STANDING:
        wait_until(lambda: crowd.phases()[namespace] == phase)
    else:
        crowd.play(until=lambda: crowd.phases()[namespace] == phase)


@pytest.mark.parametrize("phase", PHASES)
def test_deleted_in_any_phase_a_job_goes_and_leaves_nothing(
    crowd: Crowd, births: Births, phase: str
) -> None:
    namespace = crowd.add(**SPECS.get(phase, {}))
    bring(crowd, namespace, phase)
    crowd.delete(namespace, "Background")

    assert crowd.wait_for_nothing([namespace], births) == []

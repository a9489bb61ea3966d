"""Objects that the API server let through, and this operator cannot run."""

from typing import Any

import pytest

from tunesmith_api.conditions import MAX_MESSAGE
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_operator.finetunejob.parsing import Unreadable, parse_job


def found(**spec: Any) -> dict[str, Any]:
    """A job as the API server gives it."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "job", "namespace": "ns", "uid": "u", "resourceVersion": "1"},
        "spec": {
            "model": {"uri": "hf://org/model"},
            "dataset": {"train": {"uri": "file://rows.jsonl"}},
            "output": {"model": "m"},
            **spec,
        },
        "status": {"phase": "OfALaterVersion"},
    }


def test_the_status_is_no_part_of_what_is_asked_for() -> None:
    assert isinstance(parse_job(found()), FineTuneJob)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"magic": True}, "spec.magic: unknown field"),
        ({"training": {"batchSize": 3, "microBatchSize": 4}}, "spec.training"),
        ({"backoffLimit": -1}, "spec.backoffLimit: -1 is too small"),
    ],
)
def test_the_message_names_the_field(spec: dict[str, Any], message: str) -> None:
    job = parse_job(found(**spec))

    assert isinstance(job, Unreadable)
    assert job.message.startswith(message)
    assert len(job.message) <= MAX_MESSAGE


def test_several_problems_are_counted() -> None:
    job = parse_job(found(magic=True, wonder=True))

    assert isinstance(job, Unreadable)
    assert job.message.endswith("(and 1 more)")

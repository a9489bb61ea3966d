"""FineTuneJobs as tools meet them: every phase that the engine's own conditions describe."""

from datetime import UTC, datetime
from typing import Any

from tunesmith_api.finetunejob.status import Phase
from tunesmith_engine.conditions import merge_conditions
from tunesmith_engine.lifecycle.conditions import job_conditions
from tunesmith_engine.stages.catalog import CATALOG

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PHASES = (*Phase, *(stage.phase for stage in CATALOG))
AT_REST = {Phase.SUCCEEDED, Phase.FAILED, Phase.SUSPENDED}


def job_in(phase: str, *, observed: int = 1, suspend: bool = False) -> dict[str, Any]:
    """A job of generation 1 whose conditions are those that the engine gives in `phase`."""
    conditions = merge_conditions(
        job_conditions(
            phase, is_at_rest=phase in AT_REST, reason=str(phase), message="as it is", now=NOW
        ),
        before=(),
        generation=observed,
    )
    return new_job(suspend=suspend) | {
        "status": {
            "observedGeneration": observed,
            "phase": str(phase),
            "conditions": [each.model_dump(mode="json", by_alias=True) for each in conditions],
        }
    }


def new_job(*, suspend: bool = False) -> dict[str, Any]:
    """A job that no operator has seen yet."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "helpdesk", "generation": 1},
        "spec": {
            "model": {"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"},
            "dataset": {"train": {"uri": "s3://tickets/2026-11.jsonl"}},
            "output": {"model": "helpdesk"},
            "suspend": suspend,
        },
    }

"""A stage that only tests know: a row, a function, and a field that switches it on."""

from pathlib import Path
from typing import Final

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.contracts import Environment, Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.memory import publishing
from tunesmith_engine.stages.stage_rows import Stage

# A field that changes the outcome of no other stage.
WANTED: Final = {"backoffLimit": 7}


def is_wanted(spec: FineTuneJobSpec) -> bool:
    return spec.backoff_limit == WANTED["backoffLimit"]


def count(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Count the artifacts of the stages that are read."""
    reporter.progress("counting", step=1, total_steps=1)
    total = sum(len(result.artifacts) for result in request.inputs.values())
    counted = Path(request.output) / "counted.txt"
    counted.write_text(str(total))
    return StageOutcome(
        message=f"{total} artifacts of {', '.join(request.inputs)}",
        artifacts=[artifact_of("counted", counted)],
        facts={"total": total},
    )


COUNT: Final = Stage(
    name="count",
    phase="Counting",
    condition="Counted",
    environment=Environment.TRAINER,
    function="counting:count",
    weight=5.0,
    fields=("backoffLimit",),
    reads=("prepare",),
    memory=publishing,
    applies=is_wanted,
)

WITH_COUNT: Final = CATALOG.with_stage(COUNT, before="evaluate")

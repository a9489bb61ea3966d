"""A tuned job of three layers that is cut and recovered within seconds, and a kill half-way."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from small_models import three_layers
from tuned_job import SilentReporter, make_tuned_job, request_for
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageName, StageOutcome, StageRequest, StageResult

# A recovery of seconds, after which the model is nearer to its teacher than before.
STEPS = {"maxSteps": 8, "learningRate": 0.002}
# Short: three models are scored on it.
GENERAL_TEXT = {"uri": "file://general.txt"}


def make_recovered_job(root: Path, *, make_model: Callable[[Path], Path] = three_layers) -> Path:
    """Write what `prepare` and `train` leave of a model that can lose layers."""
    make_tuned_job(root, scale=0.1, make_model=make_model)
    (root / "general.txt").write_text("The sun rises in the east.\n\nWater boils when hot.\n")
    return root


def recovery_request(root: Path, stage: StageName, *, output: Path, **spec: Any) -> StageRequest:
    """The request of a stage that recovers what is left of the model."""
    return request_for(
        root,
        stage,
        output=output,
        evaluation={"generalText": GENERAL_TEXT},
        training={"sequenceLength": 256, "batch": {"size": 2}, "precision": "fp32"},
        **spec,
    )


def result_of(stage: StageName, outcome: StageOutcome) -> StageResult:
    """What later stages read of a stage that has left `outcome`."""
    return StageResult(
        stage=stage,
        key="0" * 64,
        attempt=1,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        artifacts=outcome.artifacts,
        evaluation=outcome.evaluation,
        facts=outcome.facts,
    )


class Killed(Exception):  # noqa: N818 - a signal, not an error
    """Stands for a signal."""


class Killer(SilentReporter):
    """Kills a stage in the second step of its recovery."""

    def progress(self, message: str, **told: Any) -> None:
        """Forget it, or end the stage."""
        if message == "recovering" and told.get("step") == 2:
            raise Killed

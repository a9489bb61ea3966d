"""A search as Ray Tune would ask it, without Ray Tune: its source of trials, and how one ends."""

from pathlib import Path
from typing import Any

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.search_memory.recall import Recalled
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.search_space import search_space
from tunesmith_trainer.search.memory_turns import memory_turns
from tunesmith_trainer.search.trial_run import RunEnd, RunPoint
from tunesmith_trainer.search.trial_source import TrialSource
from tunesmith_trainer.search.trial_store import TrialStore

RATE = "training.optimizer.learningRate"
PARAMETERS = [
    {"field": RATE, "minimum": 1e-5, "maximum": 1e-2, "log": True},
    {"field": "training.schedule.type", "choices": ["cosine", "wsd"]},
    {
        "field": "training.schedule.decayRatio",
        "minimum": 0.1,
        "maximum": 0.5,
        "when": {"field": "training.schedule.type", "isIn": ["wsd"]},
    },
]


class Silent:
    def progress(self, message: str, **_: Any) -> None:
        """Nobody looks."""


def a_request(output: Path, recalled: Recalled | None, **search: Any) -> StageRequest:
    spec = FineTuneJob.model_validate(
        a_job(search={"parameters": PARAMETERS, "budget": {"maxTrials": 8}, **search})
    ).spec.with_defaults()
    return StageRequest(
        job="job", stage="search", key="0", attempt=1, spec=spec, output=str(output), report="",
        result="", base="", cache="", secrets="", models="", recalled=recalled,
    )  # fmt: skip


def a_source(
    output: Path, *, recalled: Recalled | None = None, **search: Any
) -> tuple[TrialSource, TrialStore]:
    request = a_request(output, recalled, **search)
    settings = request.spec.search
    assert settings is not None
    store = TrialStore(output, kept=output / "checkpoints")
    memory = memory_turns(request, settings, kept=output / "checkpoints")
    source = TrialSource(
        request,
        settings,
        search_space(request.spec),
        store=store,
        reporter=Silent(),
        first_rung=100,
        memory=memory,
    )
    return source, store


def point(step: int, *, loss: float, tokens: int = 100) -> RunPoint:
    return RunPoint(
        step=step, num_steps=10, tokens=tokens, seconds=1.0, loss=loss, value=loss, is_warm=True
    )


def end(loss: float, part_losses: list[float] | None = None) -> RunEnd:
    return RunEnd(
        kind="completed", reason="", objectives={"heldOutLoss": loss}, best_step=10, num_steps=10,
        tokens=1000, seconds=2.0, curve=[], part_losses=part_losses or [], general_loss_rise=0.0,
    )  # fmt: skip

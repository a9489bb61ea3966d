"""What search and crossval found is in the spec of the stages that read them, and of no others."""

from typing import Any

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.stages.chosen_settings import with_chosen_settings
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult

RANK = "training.lora.rank"
SPEC: dict[str, Any] = {
    "search": {"parameters": [{"field": RANK, "values": [8, 32]}]},
    "crossValidation": {"folds": 3},
    "training": {"epochs": 2, "earlyStopping": {"patience": 2}},
}


def a_request(*, facts: dict[StageName, Any], **spec: Any) -> StageRequest:
    job = FineTuneJob.model_validate(a_job(**{**SPEC, **spec}))
    return StageRequest(
        job="job", stage="train", key="0", attempt=1, spec=job.spec.with_defaults(), output="",
        report="", result="", base="", cache="", secrets="", models="",
        inputs={
            name: StageResult(stage=name, key="1", attempt=1, outcome="Succeeded",
                              reason="Succeeded", facts=found)
            for name, found in facts.items()
        },
    )  # fmt: skip


def test_the_best_settings_and_the_best_number_of_steps_are_trained() -> None:
    best = {"number": 3, "parameters": {RANK: 32}}
    request = a_request(facts={"search": {"best": best}, "crossval": {"refitSteps": 70}})

    training = with_chosen_settings(request).spec.training

    assert (training.lora.rank, training.lora.alpha) == (32, 64)
    assert (training.max_steps, training.epochs, training.early_stopping) == (70, None, None)


def test_without_refit_training_is_as_long_as_the_job_says() -> None:
    request = a_request(
        facts={"crossval": {"refitSteps": 70}}, crossValidation={"folds": 3, "refit": False}
    )

    assert with_chosen_settings(request) is request


def test_a_stage_that_reads_neither_has_the_spec_as_planned() -> None:
    request = a_request(facts={})

    assert with_chosen_settings(request) is request

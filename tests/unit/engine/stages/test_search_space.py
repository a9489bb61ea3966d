"""A space is read in the spec's own models, and what cannot be searched is refused by its path."""

from typing import Any

import pytest

from manifests import a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.search_space import grid_of, search_space, with_parameters

RATE = "training.optimizer.learningRate"
RANK = "training.lora.rank"
SCHEDULE = "training.schedule.type"
DECAY = "training.schedule.decayRatio"


def spec_of(*parameters: dict[str, Any], **more: Any) -> FineTuneJobSpec:
    search = {"parameters": list(parameters), **more.pop("search", {})}
    job = FineTuneJob.model_validate(a_job(search=search, **more))
    return job.spec.with_defaults()


def test_a_field_gives_its_type() -> None:
    space = search_space(
        spec_of(
            {"field": RATE, "minimum": 1e-5, "maximum": 1e-2, "log": True},
            {"field": RANK, "values": [8, 16]},
            {"field": "training.lora.useRslora", "choices": ["true", "false"]},
            {"field": "training.batch.size", "minimum": 4, "maximum": 16, "step": 4},
        )
    )

    assert [dimension.kind for dimension in space] == ["float", "choice", "choice", "int"]
    assert [dimension.grid for dimension in space[1:]] == [(8, 16), (True, False), (4, 8, 12, 16)]


def test_a_grid_counts_once_what_its_condition_leaves_alike() -> None:
    space = search_space(
        spec_of(
            {"field": DECAY, "values": [0.1, 0.2], "when": {"field": SCHEDULE, "isIn": ["wsd"]}},
            {"field": SCHEDULE, "choices": ["cosine", "wsd"]},
        )
    )

    assert grid_of(space, max_trials=3) == [
        {SCHEDULE: "cosine"},
        {SCHEDULE: "wsd", DECAY: 0.1},
        {SCHEDULE: "wsd", DECAY: 0.2},
    ]
    with pytest.raises(BadInputError, match="maxTrials: the grid has 3 combinations"):
        grid_of(space, max_trials=2)


def test_alpha_follows_a_searched_rank_unless_it_was_given() -> None:
    default = with_parameters(spec_of({"field": RANK, "values": [8]}), {RANK: 8})
    given = with_parameters(
        spec_of({"field": RANK, "values": [8]}, training={"lora": {"alpha": 20}}), {RANK: 8}
    )

    assert (default.training.lora.alpha, given.training.lora.alpha) == (16, 20)


def test_a_searched_number_of_steps_takes_the_place_of_epochs() -> None:
    field = "training.maxSteps"
    spec = with_parameters(spec_of({"field": field, "values": [5]}), {field: 5})

    assert (spec.training.max_steps, spec.training.epochs) == (5, None)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([{"field": RANK, "values": [8.5]}], r"parameters\[0\].*whole number"),
        ([{"field": RANK, "values": [0]}], r"parameters\[0\].*training.lora.rank: 0"),
        ([{"field": RATE, "choices": ["high"]}], "is a number; give values"),
        ([{"field": SCHEDULE, "values": [1]}], "give words as choices"),
        ([{"field": SCHEDULE, "choices": ["cosin"]}], r"cosin: .*'cosine'"),
        ([{"field": "training.lora.useRslora", "choices": ["yes"]}], "is a switch"),
        (
            [
                {"field": "training.epochs", "values": [1]},
                {"field": "training.maxSteps", "values": [5]},
            ],
            "both say when training ends",
        ),
        (
            [
                {"field": SCHEDULE, "choices": ["cosine", "linear"]},
                {"field": DECAY, "values": [0.1], "when": {"field": SCHEDULE, "isIn": ["wsd"]}},
            ],
            "never is; name one of cosine, linear",
        ),
    ],
)
def test_what_cannot_be_searched_is_refused(parameters: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        search_space(spec_of(*parameters))


def test_adapters_are_not_searched_where_there_are_none() -> None:
    with pytest.raises(BadInputError, match="method: full has no adapters"):
        search_space(spec_of({"field": RANK, "values": [8]}, training={"method": "full"}))

"""What a search makes of its memory: proposals within its space, and the guard."""

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import a_job
from tunesmith_api.finetunejob.search import Parameter, Search, SearchBudget
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.search_memory.distances import nearest
from tunesmith_engine.search_memory.guard import dropped_sources, is_memorys_turn, keep_source
from tunesmith_engine.search_memory.proposals import (
    Observed,
    Proposal,
    most_proposals,
    proposals,
)
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Setting, Task
from tunesmith_engine.search_memory.space import Choices, Range, Space
from tunesmith_engine.search_memory.spec_space import space_of

RATE: Final = "training.optimizer.learningRate"
BATCH: Final = "training.batch.size"
SPACE = Space([Range(RATE, 1e-5, 1e-2, is_log=True), Choices(BATCH, (8, 16, 32))])
TASK = Task(method="lora", objective="sft", tokens=100_000, base_loss=3.0)
RATES = (1e-5, 1e-4, 1e-3, 1e-2)


def an_earlier(job: str, *, best: float, tokens: int = 100_000, **task: object) -> PastJob:
    """A search over rates, the best of which is `best`."""
    losses = [1.0 + 0.2 * abs(RATES.index(rate) - RATES.index(best)) for rate in RATES]
    return PastJob(
        job=job,
        uid=job,
        task=TASK.model_copy(update={"tokens": tokens, "digest": job, **task}),
        settings={BATCH: 16},
        trials=[
            PastTrial(settings={RATE: rate}, value=loss)
            for rate, loss in zip(RATES, losses, strict=True)
        ],
    )


def proposed(records: list[PastJob], most: int = 6, **seen: Any) -> list[Proposal]:
    return proposals(nearest(records, TASK), TASK, SPACE, most, **seen)


def test_the_best_of_near_tasks_comes_first() -> None:
    """With the settings that its job had besides."""
    found = proposed([an_earlier("old", best=1e-3)])

    assert (found[0].settings, found[0].source) == ({RATE: 1e-3, BATCH: 16}, "old")


def test_the_second_is_good_where_the_first_is_not() -> None:
    """A portfolio, not the same twice."""
    records = [an_earlier("one", best=1e-5), an_earlier("other", best=1e-2)]

    found = proposed(records)

    assert {found[0].settings[RATE], found[1].settings[RATE]} == {1e-5, 1e-2}


@pytest.mark.parametrize(("budget", "most"), [(1, 0), (3, 0), (4, 1), (10, 3), (20, 6)])
def test_at_most_thirty_per_cent_are_memorys(budget: int, most: int) -> None:
    """Those that it has proposed before count."""
    records = [an_earlier(f"job-{place}", best=RATES[place]) for place in range(4)]

    search = Search(
        parameters=[Parameter(field=RATE, minimum=1e-5, maximum=1e-2)],
        budget=SearchBudget(max_trials=budget),
    )
    assert most_proposals(search) == most
    assert len(proposed(records, most)) <= most
    spent = [Observed({RATE: 2e-4, BATCH: 8}, 1.0, source="job-0")] * most
    assert proposed(records, most, observed=spent) == []


def test_other_methods_and_far_tasks_are_not_asked() -> None:
    """Adapters want ten times the rate of all weights."""
    records = [
        an_earlier("full", best=1e-5, method="full"),
        an_earlier("far", best=1e-5, tokens=10**12),
        an_earlier("near", best=1e-3, tokens=120_000),
    ]

    assert [each.record.job for each in nearest(records, TASK)] == ["near"]


def test_a_source_that_ranks_the_trials_wrongly_is_not_asked_again() -> None:
    """It says that high rates are good, and they were not."""
    records = [an_earlier("wrong", best=1e-2), an_earlier("right", best=1e-5)]
    observed = [Observed({RATE: 1e-2, BATCH: 16}, 3.0), Observed({RATE: 1e-4, BATCH: 16}, 1.5)]

    found = proposed(records, observed=observed)

    assert {each.source for each in found} == {"right"}


def test_jobs_without_any_gain_propose_nothing() -> None:
    """No better than the base model is no recommendation."""
    record = an_earlier("old", best=1e-3).model_copy(
        update={"trials": [PastTrial(settings={RATE: 1e-3}, value=3.5)]}
    )

    assert proposed([record]) == []


@given(
    st.dictionaries(
        st.sampled_from([RATE, BATCH, "training.epochs"]),
        st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    )
)
def test_whatever_is_projected_lies_within_the_space(settings: dict[str, Setting]) -> None:
    """And is projected onto itself."""
    inside = SPACE.projected(settings)

    if inside is not None:
        assert set(inside) <= {RATE, BATCH}
        assert 1e-5 <= float(inside.get(RATE, 1e-3)) <= 1e-2
        assert inside.get(BATCH, 8) in {8, 16, 32}
        assert SPACE.projected(inside) == inside


@given(st.floats(0.1, 100.0), st.floats(0.05, 3.0), st.integers(1, 40), st.floats(0.0, 1.0))
def test_steps_are_kept(low: float, step: float, num: int, part: float) -> None:
    """Counted from the lower end, and never beyond the upper one."""
    space = Range("x", low, low + step * num, step=step)

    value = space.projected(low + part * step * num)

    assert isinstance(value, float)
    assert value <= low + step * num + 1e-6
    assert abs((value - low) / step - round((value - low) / step)) < 1e-6


def test_a_space_of_the_spec_has_values_of_its_fields() -> None:
    """16 and not 16.0; true and not "true"; and conditions hold."""
    spec = FineTuneJobSpec.model_validate(
        a_job(
            search={
                "parameters": [
                    {"field": "training.batch.size", "values": [8, 16]},
                    {"field": "training.lora.useRslora", "choices": ["true", "false"]},
                    {"field": "training.schedule.type", "choices": ["cosine", "wsd"]},
                    {
                        "field": "training.schedule.decayRatio",
                        "minimum": 0.1,
                        "maximum": 0.5,
                        "when": {"field": "training.schedule.type", "isIn": ["wsd"]},
                    },
                ]
            }
        )["spec"]
    ).with_defaults()
    settings: dict[str, Setting] = {
        "training.batch.size": 16.0,
        "training.lora.useRslora": True,
        "training.schedule.type": "cosine",
        "training.schedule.decayRatio": 0.2,
    }

    space = space_of(spec)
    projected = space.projected(settings)

    assert projected == {
        "training.batch.size": 16,
        "training.lora.useRslora": True,
        "training.schedule.type": "cosine",
    }
    assert isinstance(projected["training.batch.size"], int)
    beside_wsd = space.projected({**settings, "training.schedule.type": "wsd"})
    assert beside_wsd is not None
    assert beside_wsd["training.schedule.decayRatio"] == 0.2


def test_the_guard_keeps_what_beats_the_sampler() -> None:
    """Equal is not better; a failed trial is worse than any; nothing to compare is kept."""
    assert keep_source([1.0], [2.0, 1.5], direction="minimize")
    assert not keep_source([1.0], [2.0, 1.5], direction="maximize")
    assert not keep_source([1.0], [1.0], direction="minimize")
    assert not keep_source([None], [5.0], direction="minimize")
    assert keep_source([], [1.0], direction="minimize")
    assert dropped_sources(
        [Observed({}, 3.0, "bad"), Observed({}, 1.0, "good"), Observed({}, 2.0)],
        direction="minimize",
    ) == {"bad"}


def test_memory_begins_is_compared_and_goes_on_while_it_is_better() -> None:
    """Budget for four of memory's trials."""

    def turn(*observed: Observed) -> bool:
        return is_memorys_turn(observed, 4, direction="minimize")

    mine, better = Observed({}, 1.0, "old"), Observed({}, 0.5)
    assert turn()
    assert not turn(mine)
    assert not turn(mine, Observed({}, 2.0))
    assert turn(mine, Observed({}, 2.0), Observed({}, 3.0))
    # Most pairs are not enough: the sampler has the best trial.
    assert not turn(mine, mine, Observed({}, 2.0), better)
    assert not turn(Observed({}, None, "old"), Observed({}, None), Observed({}, None))
    assert not turn(mine, Observed({}, None, is_done=False))
    assert not turn(*[mine] * 4, Observed({}, 2.0))

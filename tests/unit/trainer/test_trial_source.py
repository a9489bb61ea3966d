"""What is proposed and kept, as Ray Tune would ask: also after a kill, and within a budget."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests import a_job
from trial_sources import PARAMETERS, RATE, a_request, a_source, end, point
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.search_memory.distances import Neighbour
from tunesmith_engine.search_memory.recall import Recalled
from tunesmith_engine.search_memory.records import PastJob, PastTrial, Task
from tunesmith_engine.stages.search_space import search_space
from tunesmith_engine.stages.trial_records import TrialRecord, TrialsFile
from tunesmith_trainer.search.memory_turns import memory_turns
from tunesmith_trainer.search.proposals import frozen_trials, write_journal
from tunesmith_trainer.search.trial_source import TrialSource
from tunesmith_trainer.search.trial_store import TrialStore


def run_out(source: TrialSource, store: TrialStore, *, most: int = 99) -> Iterator[TrialRecord]:
    """Run trials one after another; the loss is the lower the nearer the rate is to 1e-3."""
    for _ in range(most):
        task = source.next_task()
        if task is None:
            return
        trial = store[task["number"]]
        source.ended(trial.number, end(abs(float(trial.parameters[RATE]) - 1e-3)))
        yield store[trial.number]


@pytest.mark.parametrize(
    "how",
    [{"method": "random"}, {"method": "bayesian"}, {"method": "bayesian", "sampler": "gp"}],
    ids=["random", "tpe", "gp"],
)
def test_a_killed_search_goes_on_as_if_it_had_not_been(tmp_path: Path, how: dict[str, Any]) -> None:
    undisturbed = list(run_out(*a_source(tmp_path / "one", **how)))
    before = list(run_out(*a_source(tmp_path / "two", **how), most=4))
    # Killed within the fifth, which is run again under its number.
    killed, _ = a_source(tmp_path / "two", **how)
    assert killed.next_task() is not None
    after = list(run_out(*a_source(tmp_path / "two", **how)))

    assert before + after == undisturbed
    assert len(undisturbed) == 8


def an_earlier(job: str, *, best: float) -> Neighbour:
    """A job whose losses were the lower the nearer the rate was to `best`."""
    rates = (1e-5, 1e-4, 1e-3, 5e-3)
    trials = [PastTrial(settings={RATE: rate}, value=abs(math.log(rate / best))) for rate in rates]
    return Neighbour(record=PastJob(job=job, uid=job, task=Task(), trials=trials), distance=0.0)


def test_memory_begins_and_a_killed_search_does_not_ask_it_anew(tmp_path: Path) -> None:
    told = Recalled(neighbours=[an_earlier("right", best=1e-3)])
    undisturbed = list(run_out(*a_source(tmp_path / "one", recalled=told)))
    list(run_out(*a_source(tmp_path / "two", recalled=told), most=1))
    # Meanwhile other jobs have ended.
    other = Recalled(neighbours=[an_earlier("newer", best=1e-5)])
    list(run_out(*a_source(tmp_path / "two", recalled=other)))

    kept = TrialsFile.read(tmp_path / "two" / "trials.json").trials
    assert kept == undisturbed
    assert kept[0].origin.source_job == "right"
    # Near its best: how good neighbours were counts, too.
    assert kept[0].parameters[RATE] in {1e-3, 5e-3}
    # What it does not know is the sampler's to choose.
    assert "training.schedule.type" in kept[0].parameters
    assert sum(trial.origin.kind == "memory" for trial in kept) <= 2


def test_a_memory_that_is_wrong_is_dropped_and_the_facts_say_so(tmp_path: Path) -> None:
    told = Recalled(neighbours=[an_earlier("wrong", best=5e-3)])
    budget = {"maxTrials": 20}
    trials = list(run_out(*a_source(tmp_path, recalled=told, budget=budget)))

    request = a_request(tmp_path, told, budget=budget)
    assert request.spec.search is not None
    memory = memory_turns(request, request.spec.search, kept=tmp_path / "checkpoints")
    facts = memory.facts(trials)

    assert facts["near"] == facts["tried"] == facts["dropped"] == ["wrong"]
    tried = facts["numTrials"]
    assert isinstance(tried, int)
    assert tried < 6


@pytest.mark.parametrize("search", [{"memory": {"use": "none"}}, {"budget": {"maxTrials": 3}}])
def test_memory_has_no_turn_where_the_job_gives_it_none(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    told = Recalled(neighbours=[an_earlier("right", best=1e-3)])

    trials = list(run_out(*a_source(tmp_path, recalled=told, **search)))

    assert {trial.origin.kind for trial in trials} == {"sampler"}


def test_a_parameter_is_searched_only_where_its_condition_holds(tmp_path: Path) -> None:
    trials = list(run_out(*a_source(tmp_path)))

    for trial in trials:
        is_wsd = trial.parameters["training.schedule.type"] == "wsd"
        assert ("training.schedule.decayRatio" in trial.parameters) == is_wsd


def test_a_fault_of_a_trial_is_its_result(tmp_path: Path) -> None:
    source, store = a_source(tmp_path)
    diverged = end(0.0)
    diverged["kind"], diverged["reason"] = "failed", "LossDiverged"
    for number, what in enumerate([None, diverged]):
        assert source.next_task() is not None
        source.ended(number, what)

    kept = TrialsFile.read(tmp_path / "trials.json").trials
    assert [trial.state for trial in kept] == ["failed", "failed"]
    assert "process of the trial has ended" in kept[0].reason
    assert kept[1].reason == "LossDiverged"
    assert source.next_task() is not None
    assert not store[2].has_ended


def test_a_trial_that_forgets_too_much_is_pruned_and_the_sampler_learns_from_it(
    tmp_path: Path,
) -> None:
    source, store = a_source(tmp_path)
    forgot = end(0.0)
    forgot["kind"], forgot["reason"] = "pruned", "ForgettingBudgetExceeded: step 2"
    for number, what in enumerate([end(1.0), forgot]):
        assert source.next_task() is not None
        source.ended(number, what)

    assert [trial.state for trial in store.trials] == ["completed", "pruned"]
    assert store[1].reason.startswith("ForgettingBudgetExceeded")
    search = a_request(tmp_path, None).spec.search
    assert search is not None
    states = {frozen.state.name for frozen in frozen_trials(search, (), store.trials)}
    assert states == {"COMPLETE", "PRUNED"}


def test_values_that_clash_fail_their_trial_alone(tmp_path: Path) -> None:
    parameters = [
        {"field": "training.schedule.warmupRatio", "values": [0.1, 0.9]},
        {"field": "training.schedule.decayRatio", "values": [0.5]},
        {"field": "training.schedule.type", "choices": ["wsd"]},
    ]
    source, store = a_source(tmp_path, method="grid", parameters=parameters)

    while (task := source.next_task()) is not None:
        source.ended(task["number"], end(1.0))

    assert [trial.state for trial in store.trials] == ["completed", "failed"]
    assert "lower one of them" in store[1].reason


def test_a_spent_budget_ends_trials_that_run_and_begins_none(tmp_path: Path) -> None:
    source, store = a_source(tmp_path, budget={"maxTrials": 8, "maxTokens": 500})
    source.next_task()

    assert not source.is_over_at(0, point(1, loss=1.0, tokens=400))
    assert source.is_over_at(0, point(2, loss=1.0, tokens=600))
    source.ended(0, None)

    assert (store[0].state, store[0].reason) == ("pruned", "search.budget.maxTokens is spent")
    assert source.next_task() is None


def test_the_trials_make_a_study_that_optuna_opens(tmp_path: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    source, store = a_source(tmp_path)
    trials = list(run_out(source, store))
    spec = FineTuneJob.model_validate(a_job(search={"parameters": PARAMETERS})).spec
    assert spec.search is not None
    path = tmp_path / "study.journal"
    write_journal(spec.search, search_space(spec), trials, path=path, name="job")

    study = optuna.load_study(
        study_name="job", storage=JournalStorage(JournalFileBackend(str(path)))
    )

    assert [trial.params for trial in study.trials] == [trial.parameters for trial in trials]
    assert study.best_value == min(trial.objectives["heldOutLoss"] for trial in trials)

"""The settings of the next trial: from the grid, at random, or by Optuna's samplers.

A proposal depends on the seed, its number and the trials so far, and on nothing that a killed
search would lose: each is asked of a fresh study with a sampler of its own seed.
"""

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from tunesmith_api.finetunejob.search import MAXIMIZED, Search
from tunesmith_engine.stages.search_space import Dimension, Parameters
from tunesmith_engine.stages.trial_records import ParameterValue, TrialRecord

_STATES: Final = {
    "running": TrialState.RUNNING,
    "completed": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
# Optuna's own number, as long as the budget leaves most of the trials to what they have taught.
_MOST_AT_RANDOM: Final = 10
_SHARE_AT_RANDOM: Final = 3
# Journals have no clock of the trials: those of one search begin at one time.
_BEGUN: Final = datetime(2000, 1, 1, tzinfo=UTC).replace(tzinfo=None)


def propose(
    search: Search,
    space: Sequence[Dimension],
    trials: Sequence[TrialRecord],
    *,
    number: int,
    given: Mapping[str, ParameterValue] | None = None,
) -> Parameters:
    """The settings of trial `number`, drawn or inferred beside those that are `given`.

    A grid has its own order.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = _study(search, space, trials, sampler=_sampler(search, number=number))
        if given:
            study.enqueue_trial(dict(given))
        asked = study.ask()
        proposed: Parameters = {}
        for dimension in space:
            if dimension.is_active(proposed):
                proposed[dimension.field] = _suggested(asked, dimension)
    return proposed


def write_journal(
    search: Search,
    space: Sequence[Dimension],
    trials: Sequence[TrialRecord],
    *,
    path: Path,
    name: str,
) -> None:
    """Write the trials as a journal of Optuna, which optuna-dashboard opens."""
    path.unlink(missing_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=name,
        directions=_directions(search),
    )
    study.set_user_attr("objectives", [objective.metric for objective in search.objectives])
    study.add_trials(frozen_trials(search, space, trials))


def frozen_trials(
    search: Search, space: Sequence[Dimension], trials: Sequence[TrialRecord]
) -> list[FrozenTrial]:
    """The trials as Optuna has them."""
    return [_frozen(trial, search, space) for trial in trials]


def _study(
    search: Search,
    space: Sequence[Dimension],
    trials: Sequence[TrialRecord],
    *,
    sampler: BaseSampler,
) -> optuna.Study:
    study = optuna.create_study(directions=_directions(search), sampler=sampler)
    study.add_trials(frozen_trials(search, space, trials))
    return study


def _sampler(search: Search, *, number: int) -> BaseSampler:
    digest = hashlib.sha256(f"{search.seed}\0{number}".encode()).digest()
    seed = int.from_bytes(digest[:4], "big")
    at_random = min(_MOST_AT_RANDOM, max(1, search.budget.max_trials // _SHARE_AT_RANDOM))
    if search.method != "bayesian":
        return RandomSampler(seed=seed)
    if search.sampler == "gp":
        return GPSampler(seed=seed, n_startup_trials=at_random, warn_independent_sampling=False)
    return TPESampler(seed=seed, n_startup_trials=at_random)


def _directions(search: Search) -> list[str]:
    return [
        "maximize" if objective.metric in MAXIMIZED else "minimize"
        for objective in search.objectives
    ]


def _suggested(asked: optuna.Trial, dimension: Dimension) -> Any:
    if dimension.kind == "choice":
        return asked.suggest_categorical(dimension.field, dimension.choices)
    if dimension.kind == "int":
        return asked.suggest_int(
            dimension.field,
            int(dimension.low),
            int(dimension.high),
            step=int(dimension.step or 1),
            log=dimension.is_log,
        )
    return asked.suggest_float(
        dimension.field, dimension.low, dimension.high, step=dimension.step, log=dimension.is_log
    )


def _distribution(dimension: Dimension) -> BaseDistribution:
    if dimension.kind == "choice":
        return CategoricalDistribution(dimension.choices)
    if dimension.kind == "int":
        low, high, step = int(dimension.low), int(dimension.high), int(dimension.step or 1)
        return IntDistribution(low, high, log=dimension.is_log, step=step)
    return FloatDistribution(
        dimension.low, dimension.high, log=dimension.is_log, step=dimension.step
    )


def _frozen(trial: TrialRecord, search: Search, space: Sequence[Dimension]) -> FrozenTrial:
    known = {dimension.field: _distribution(dimension) for dimension in space}
    # NB: the last step of a grid may lie beyond the end by a rounding error, for which Optuna would
    # refuse the whole trial.
    inside = {
        field: value
        for field, value in trial.parameters.items()
        if field in known and known[field]._contains(known[field].to_internal_repr(value))  # noqa: SLF001
    }
    values = (
        [trial.objectives[objective.metric] for objective in search.objectives]
        if trial.state == "completed"
        else None
    )
    frozen = optuna.create_trial(
        state=_STATES[trial.state],
        params=inside,
        distributions={field: known[field] for field in inside},
        values=values,
        # A study of several objectives knows no values on the way.
        intermediate_values={point.step: point.value for point in trial.intermediates}
        if len(search.objectives) == 1
        else {},
        user_attrs={"number": trial.number, "origin": trial.origin.kind},
    )
    frozen.datetime_start = _BEGUN
    return frozen

"""When a search has found what its rows can tell apart: a bound of what is to be gained, an error.

After Makarova et al. 2022 (Automatic Termination for Hyperparameter Optimization, AutoML): the
bound is Optuna's, by a Gaussian process over the trials; the error is that of the best trial's loss
between parts of the held-out rows, where the paper has it between the folds of a cross-validation.
"""

import math
import warnings
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import stdev
from typing import Final

import optuna
from optuna.terminator import RegretBoundEvaluator
from optuna.trial import TrialState

from tunesmith_api.finetunejob.search import Search, Terminator
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_engine.stages.search_space import Dimension
from tunesmith_engine.stages.trial_records import TrialRecord
from tunesmith_trainer.data.held_out_roles import digest_of_key, record_key
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.search.proposals import frozen_trials
from tunesmith_trainer.search.ranking import best_trial

_SEARCH: Final[StageName] = "search"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What could be gained at most, and the standard error of the best loss; nats a target."""

    regret_bound: float
    error: float

    @property
    def is_over(self) -> bool:
        """Whether more trials could find nothing that these rows could show."""
        return self.regret_bound < self.error


class Termination:
    """Looks at the trials of a search once for each that was completed."""

    def __init__(self, search: Search, space: Sequence[Dimension]) -> None:
        self._search = search
        self._space = space
        self._looked_at = 0
        self.verdict: Verdict | None = None

    def is_over(self, trials: Sequence[TrialRecord]) -> bool:
        """Whether no further trial is worth it; False where the job has no terminator."""
        asked = self._search.terminator
        completed = [trial for trial in trials if trial.state == "completed"]
        if asked is None or len(completed) < asked.min_trials:
            return False
        if len(completed) != self._looked_at:
            self._looked_at = len(completed)
            self.verdict = self._looked(completed, asked)
        return self.verdict is not None and self.verdict.is_over

    def _looked(self, completed: Sequence[TrialRecord], asked: Terminator) -> Verdict:
        best = best_trial(completed, self._search.objectives)
        losses = best.part_losses if best is not None else []
        frozen = frozen_trials(self._search, self._space, completed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            evaluator = RegretBoundEvaluator(min_n_trials=asked.min_trials, seed=self._search.seed)
            known = [trial for trial in frozen if trial.state == TrialState.COMPLETE]
            bound = evaluator.evaluate(known, optuna.study.StudyDirection.MINIMIZE)
        return Verdict(regret_bound=float(bound), error=stdev(losses) / math.sqrt(len(losses)))


def parts_of_rows_that_choose(request: StageRequest, prepared: Prepared) -> list[list[int]]:
    """The parts of the held-out rows that the stage's terminator compares; none without one.

    Raises:
        BadInputError: there are fewer questions than parts.
    """
    search = request.spec.search
    if request.stage != _SEARCH or search is None or search.terminator is None:
        return []
    keys = [record_key(record) for record in prepared.records("validation")]
    return parts_of(keys, num=search.terminator.parts)


def parts_of(keys: Sequence[Hashable], *, num: int) -> list[list[int]]:
    """Numbers of the rows of each part, whole questions, the largest first to the smallest part.

    Raises:
        BadInputError: there are fewer questions than parts.
    """
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        groups[key].append(row)
    if len(groups) < num:
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"search.terminator.parts: {num} parts of {len(groups)} first question(s) that choose; "
            "give fewer parts, or raise dataset.validationFraction or search.selectionFraction",
        )
    parts: list[list[int]] = [[] for _ in range(num)]
    # Of equal ones by a digest, so that the order of the rows does not matter.
    for key in sorted(groups, key=lambda each: (-len(groups[each]), digest_of_key(each))):
        min(parts, key=len).extend(groups[key])
    return parts

"""The stage `crossval`: how well the job's settings do on training rows that a run has not seen.

Artifact: `folds`, a `trial_records.TrialsFile` whose trials are the folds; their intermediates are
the held-out losses of each, the curves. Facts: `{"heldOutLoss": {"mean", "low", "high",
"deviation"}, "folds": [{"rows", "heldOutLoss", "bestStep", "seconds"}], "medianBestStep",
"refitSteps"}`; losses in nats per target token, the interval of 95 %. `train` has as many steps as
`refitSteps` says.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Final, cast

from pydantic import JsonValue

from tunesmith_api.finetunejob.cross_validation import CrossValidation
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import CHECKPOINTS, Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.trial_records import TRIALS_FILE, TrialRecord
from tunesmith_trainer.crossval.fold_source import FoldSource
from tunesmith_trainer.crossval.folds import folds_of
from tunesmith_trainer.crossval.intervals import mean_interval
from tunesmith_trainer.data.cleaning.near_duplicates import near_duplicate_groups
from tunesmith_trainer.data.cleaning.row_keys import digest_of
from tunesmith_trainer.data.cleaning.row_texts import compared_text
from tunesmith_trainer.data.held_out_roles import record_key, row_of
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.prepare.splits import joined_keys
from tunesmith_trainer.search.stage import precision_of_runs
from tunesmith_trainer.search.trial_store import TrialStore
from tunesmith_trainer.search.tuner import run_all
from tunesmith_trainer.train.ray_cluster import local_ray
from tunesmith_trainer.versions import library_versions

FOLDS: Final = "folds"


def cross_validate(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Run every fold that no earlier attempt has ended.

    Raises:
        BadInputError: the rows cannot be parted into so many folds.
        VerdictError: a fold has failed.
    """
    settings = cast("CrossValidation", request.spec.cross_validation)
    prepared = load_prepared(request)
    refuse_undoable(request, model=prepared.model)
    folds = _folds(request, prepared, settings)
    output = Path(request.output)
    store = TrialStore(output, kept=output / CHECKPOINTS)
    probed = precision_of_runs(request, prepared, reporter)
    reporter.progress("starting Ray")
    gpus, parallel = min(1, request.spec.resources.gpus_per_worker), settings.parallel
    with local_ray(workers=parallel, gpus=gpus, record=output / ".ray") as folder:
        run_all(
            FoldSource(request, folds, store=store, reporter=reporter),
            prepared=prepared,
            probed=probed,
            parallel=parallel,
            gpus=gpus,
            folder=folder,
        )
    _refuse_failed(store.trials)
    return _outcome(store.trials, folds, output=output)


def _folds(request: StageRequest, prepared: Prepared, settings: CrossValidation) -> list[list[int]]:
    records = prepared.records("train")
    # A child has the question of its parent's source, whatever words it was given.
    parents = {record.source: index for index, record in reversed([*enumerate(records)])}
    families = [parents[record.source] for record in records]
    keys = joined_keys([digest_of(record_key(record)) for record in records], families)
    if settings.groups == "nearDuplicates":
        asked = request.spec.dataset.cleaning.near_duplicates
        texts = [compared_text(row_of(record)) for record in records]
        keys = joined_keys(keys, near_duplicate_groups(texts, asked.threshold, asked.seed))
    is_stratified = settings.stratify == "answers"
    answers = [(record.reference or "") if is_stratified else "" for record in records]
    seed = request.spec.training.seed
    return folds_of(keys, answers, num_folds=settings.folds, seed=seed)


def _refuse_failed(folds: Sequence[TrialRecord]) -> None:
    failed = next((fold for fold in folds if fold.state == "failed"), None)
    if failed is not None:
        raise VerdictError(
            Reason.NO_TRIAL_COMPLETED,
            f"crossValidation: fold {failed.number} failed, and there is no mean without it: "
            f"{failed.reason}",
        )


def _outcome(
    trials: Sequence[TrialRecord], folds: Sequence[Sequence[int]], *, output: Path
) -> StageOutcome:
    losses = [trial.objectives["heldOutLoss"] for trial in trials]
    interval = mean_interval(losses)
    best_step = median(trial.best_step or 0 for trial in trials)
    num_rows = sum(map(len, folds))
    # As many passes over all rows as over those of a fold, of which there are fewer.
    refit_steps = math.ceil(best_step * num_rows / (num_rows - num_rows / len(folds)))
    told: list[JsonValue] = [
        {
            "rows": len(fold),
            "heldOutLoss": trial.objectives["heldOutLoss"],
            "bestStep": trial.best_step,
            "seconds": round(trial.seconds, 1),
        }
        for trial, fold in zip(trials, folds, strict=True)
    ]
    return StageOutcome(
        message=f"{len(folds)} folds: held-out loss {interval.mean:.4f} "
        f"({interval.low:.4f} to {interval.high:.4f}); best step {best_step:g} in the median",
        artifacts=[artifact_of(FOLDS, output / TRIALS_FILE)],
        # Of the folds' models, none of which ships.
        evaluation=[
            EvaluationResult(
                suite="crossValidation",
                split=FOLDS,
                metric="loss",
                value=interval.mean,
                low=interval.low,
                high=interval.high,
                n=num_rows,
            )
        ],
        facts={
            "heldOutLoss": asdict(interval),
            "folds": told,
            "medianBestStep": best_step,
            "refitSteps": refit_steps,
        },
        versions=library_versions("torch", "transformers", "peft", "ray"),
    )

"""The stage `search`: trials of other settings, and which of them is best.

Artifacts: `trials`, `trial_records.TrialsFile`; `study`, a journal that optuna-dashboard opens;
`weights`, the best trial's checkpoints, where `train` takes them (`train/taken_weights.py`).
Facts: `{"best": {"number", "parameters", "objectives", "bestStep",
"generalLossRise"}, "front": [number],
"numTrials": {"completed", "pruned", "failed"}, "objectives": [metric], "method", "sampler",
"tokens", "seconds", "heldOutRows": {"choosing", "scored"}, "memory": {"near": [job], "tried":
[job], "dropped": [job], "numTrials"}, "termination": {"regretBound", "error", "isOver"}
or null}`; the jobs are earlier ones, parameters are by field path
below `spec`, objectives by metric. `train` and what follows it get the settings of `best`.
`checkpoints/` and `trials/` in the output folder are what a killed search goes on from.
"""

from pathlib import Path
from typing import Final, cast

from pydantic import JsonValue

from tunesmith_api.finetunejob.search import Search
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import CHECKPOINTS, Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.search_space import Dimension, search_space
from tunesmith_engine.stages.trial_records import TRIALS, TRIALS_FILE, TrialRecord
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.evaluate.forgetting import NOTABLE_RISE
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.search.memory_turns import MemoryTurns, memory_turns
from tunesmith_trainer.search.proposals import write_journal
from tunesmith_trainer.search.ranking import best_trial, pareto_front
from tunesmith_trainer.search.single_process import in_one_process
from tunesmith_trainer.search.termination import Verdict, parts_of_rows_that_choose
from tunesmith_trainer.search.trial_source import TrialSource
from tunesmith_trainer.search.trial_store import TrialStore
from tunesmith_trainer.search.tuner import run_all
from tunesmith_trainer.train.precision_probe import Precision, probed_precision
from tunesmith_trainer.train.ray_cluster import local_ray
from tunesmith_trainer.train.taken_weights import WEIGHTS
from tunesmith_trainer.train.worker import config_of
from tunesmith_trainer.versions import library_versions

_STUDY: Final = "study.journal"
# The second rung of asha's usual factor: a third of a third of a trial.
_RUNG_SHARE: Final = 9


def search(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Try settings until the budget is spent; trials that an earlier attempt ended are not run.

    Raises:
        BadInputError: the space is not sound, or there is nothing to train on or to choose by.
        VerdictError: no trial came to its end.
    """
    settings, space = cast("Search", request.spec.search), search_space(request.spec)
    output = Path(request.output)
    prepared = load_rows_of_stage(request)
    refuse_undoable(request, model=prepared.model)
    parts_of_rows_that_choose(request, prepared)  # which refuses too many parts, before a trial
    store = TrialStore(output, kept=output / CHECKPOINTS)
    probed = precision_of_runs(request, prepared, reporter)
    memory = memory_turns(request, settings, kept=output / CHECKPOINTS)
    source = TrialSource(
        request,
        settings,
        space,
        store=store,
        reporter=reporter,
        first_rung=_first_rung(request, prepared, probed),
        memory=memory,
    )
    reporter.progress("starting Ray")
    gpus = min(1, request.spec.resources.gpus_per_worker)
    parallel = settings.max_parallel
    with local_ray(workers=parallel, gpus=gpus, record=output / ".ray") as folder:
        run_all(
            source, prepared=prepared, probed=probed, parallel=parallel, gpus=gpus, folder=folder
        )
    return _outcome(
        request,
        settings,
        space,
        source=source,
        store=store,
        memory=memory,
        num_choosing=len(prepared.validation),
    )


def precision_of_runs(
    request: StageRequest, prepared: Prepared, reporter: Reporter
) -> Precision | None:
    """The processor's faster type; None where accelerators train."""
    if request.spec.resources.gpus_per_worker:
        return None
    reporter.progress("comparing bf16 with fp32")
    folder = Path(request.output)
    return probed_precision(prepared.model, training=request.spec.training, folder=folder).precision


def _first_rung(request: StageRequest, prepared: Prepared, probed: Precision | None) -> int:
    """A ninth of the tokens of a trial with the job's own settings."""
    alone = request.model_copy(update={"spec": in_one_process(request.spec)})
    config = config_of(alone, prepared=prepared, probed=probed or "fp32")
    rows = config.num_steps * config.training.batch.size
    return max(1, round(rows * float(prepared.train.lengths.mean()) / _RUNG_SHARE))


def _outcome(
    request: StageRequest,
    settings: Search,
    space: tuple[Dimension, ...],
    *,
    source: TrialSource,
    store: TrialStore,
    memory: MemoryTurns,
    num_choosing: int,
) -> StageOutcome:
    trials, output = store.trials, Path(request.output)
    best = best_trial(trials, settings.objectives)
    if best is None:
        raise VerdictError(Reason.NO_TRIAL_COMPLETED, _why_none(trials))
    write_journal(settings, space, trials, path=output / _STUDY, name=request.job)
    num_scored = len(load_prepared(request).validation) - num_choosing
    metric = settings.objectives[0].metric
    states = {
        state: sum(trial.state == state for trial in trials)
        for state in ("completed", "pruned", "failed")
    }
    verdict = source.termination.verdict
    ended = "; more could gain less than the rows tell apart" if verdict and verdict.is_over else ""
    told = ", ".join(f"{number} {state}" for state, number in states.items() if number)
    return StageOutcome(
        message=f"trials: {told}; best {metric} {best.objectives[metric]:.4f}, trial "
        f"{best.number}{ended}; {num_choosing} held-out rows chose, {num_scored} others are scored",
        artifacts=[
            artifact_of(TRIALS, output / TRIALS_FILE),
            artifact_of("study", output / _STUDY),
            *([] if settings.refit else [artifact_of(WEIGHTS, store.weights(best.number))]),
        ],
        facts={
            "best": {
                "number": best.number,
                "parameters": dict(best.parameters.items()),
                "objectives": dict(best.objectives.items()),
                "bestStep": best.best_step,
                "generalLossRise": best.general_loss_rise,
            },
            "front": [*pareto_front(trials, settings.objectives)],
            "numTrials": dict[str, JsonValue](states.items()),
            "objectives": [objective.metric for objective in settings.objectives],
            "method": settings.method,
            "sampler": (settings.sampler or "tpe") if settings.method == "bayesian" else None,
            "tokens": sum(trial.tokens for trial in trials),
            "seconds": round(sum(trial.seconds for trial in trials), 1),
            "heldOutRows": {"choosing": num_choosing, "scored": num_scored},
            "memory": memory.facts(trials),
            "termination": _told_of(source.termination.verdict),
        },
        warnings=[
            *([memory.recalled.warning] if memory.recalled.warning else []),
            *_forgetting_warnings(best, settings),
        ],
        versions=library_versions("torch", "transformers", "peft", "ray", "optuna"),
    )


def _forgetting_warnings(best: TrialRecord, settings: Search) -> list[str]:
    """That the best settings are bought with what the base knew, where nobody asked for that."""
    rise = best.general_loss_rise or 0.0
    is_asked = any(objective.metric == "generalLoss" for objective in settings.objectives)
    if is_asked or rise <= NOTABLE_RISE:
        return []
    return [
        (
            f"trial {best.number}, the best, raises the loss on general text by {rise:.3f} nats: "
            "it forgets what the base knew. Bound that for all trials by training.forgettingBudget."
        )
    ]


def _told_of(verdict: Verdict | None) -> JsonValue:
    if verdict is None:
        return None
    return {
        "regretBound": verdict.regret_bound,
        "error": verdict.error,
        "isOver": verdict.is_over,
    }


def _why_none(trials: list[TrialRecord]) -> str:
    bound = Reason.FORGETTING_BUDGET_EXCEEDED
    told = [each for each in trials if each.state == "failed" or each.reason.startswith(bound)]
    if not told:
        return "search: no trial came to its end; raise search.budget, or search.pruner.minTokens"
    first = told[0]
    return (
        f"search: no trial came to its end, {len(told)} of {len(trials)} failed or forgot too "
        f"much; trial {first.number}: {first.reason}; narrow search.parameters"
    )

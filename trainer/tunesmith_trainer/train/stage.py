"""The stage `train`: from prepared tokens to `tuned`, the weights with the lowest held-out loss.

Artifacts: `tuned`, a PEFT adapter folder or a model folder; `curve`, JSON lines as `history` says;
where the job asks for them `tensorboard`, event files, and `wandb`, offline runs.
Facts: `{"method", "precision", "probedTokensPerSecond", "numSteps", "warmupSteps", "bestStep",
"bestHeldOutLoss", "finalTrainLoss", "tokensPerSecond", "tokens": {"total", "trained", "padding"},
"mfu", "gradNorm": {"median", "max"}, "peakMemory": {"residentBytes", "deviceBytes"}, "numTargets",
"workers", "trainableParameters", "packing", "memory", "resolved", "plannedSteps", "stoppedEarly",
"outcome", "remedies", "control"}`; losses in nats per target token, or per pair with `"preference":
{"margin", "accuracy", "referenceSeconds"}` of the held-out pairs at the best step; `packing` is a
`PackingDecision`, `memory` a `MemoryPlan`; `resolved` has every hyperparameter as text by the path
of its field, the last three are as `remedies` says; probed are only processors; peaks are those of
the first worker, and `mfu` and `deviceBytes` are null where they are not known.
`checkpoints/` in the output folder is what a killed run goes on from.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_api.results import Artifact
from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.train.base_check import doubt_about_base
from tunesmith_trainer.train.config import refuse_large_batch, resolve_config
from tunesmith_trainer.train.history import ACCURACY, MARGIN, History
from tunesmith_trainer.train.memory_plan import (
    advice_on_memory,
    memory_facts,
    settled_request,
)
from tunesmith_trainer.train.packing_proof import PackingProof
from tunesmith_trainer.train.precision_probe import ProbedPrecision, probed_precision
from tunesmith_trainer.train.ray_cluster import is_in_cluster, joined_ray, local_ray
from tunesmith_trainer.train.ray_train import fit, num_gpus
from tunesmith_trainer.train.remedies import Control, compare, outcome, remedies, warnings_of
from tunesmith_trainer.train.starts import count_this_start
from tunesmith_trainer.train.taken_weights import is_taken, take_weights
from tunesmith_trainer.train.trackers.required import require_trackers
from tunesmith_trainer.train.worker import Trained
from tunesmith_trainer.train.worker_workspace import newest_kept_step
from tunesmith_trainer.versions import library_versions


def train(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Train, and return only if every planned step was done, or early stopping ended it.

    Raises:
        BadInputError: there is nothing to train on, or what the spec asks for does not exist here.
        VerdictError: the loss diverged.
        TransientError: workers were lost more often than Ray Train may replace them, or the stage
            itself more often than there were checkpoints.
    """
    require_trackers(request.spec.tracking, secrets=Path(request.secrets))
    prepared = load_rows_of_stage(request)
    refuse_undoable(request, model=prepared.model)
    for name, rows in (("train", prepared.train), ("validation", prepared.validation)):
        if len(rows) == 0:
            raise BadInputError(
                Reason.DATASET_INVALID, f"no {name} rows are left; add rows, or clean less"
            )
    refuse_large_batch(len(prepared.train), batch=request.spec.training.batch)
    take_weights(request)
    probed = _probed(request, prepared, reporter)
    request = settled_request(request, precision=probed.precision if probed else None)
    tell = _teller(request, prepared, reporter)
    with _ray(request, tell) as folder:
        tell("loading the model")
        with advice_on_memory(request):
            trained = fit(request, folder=folder, precision=probed.precision if probed else None)
    # NB: raised here, not in the workers: Ray Train would take it for a lost worker, and try again.
    if "kind" in trained:
        kind = BadInputError if trained["kind"] == "bad input" else VerdictError
        raise kind(Reason(trained["reason"]), trained["message"])
    return _outcome(request, trained, num_targets=prepared.train.num_targets, probed=probed)


def _teller(request: StageRequest, prepared: Prepared, reporter: Reporter) -> Callable[[str], None]:
    """Tells what is done before the first step; of a run that goes on, from where it does.

    A head that was lost begins the stage again, and its job would be seen to begin again, too.
    """
    newest = newest_kept_step(request)
    if newest == 0:
        return reporter.progress
    # The number of steps is the same in any type, and whatever measuring costs.
    config = resolve_config(
        request.spec, num_rows=len(prepared.train), precision="fp32", evaluation_cost=0.0
    )
    return lambda message: reporter.progress(
        f"{message}; it goes on from the checkpoint of step {newest}, later steps are done again",
        step=newest,
        total_steps=config.total_steps,
    )


@contextmanager
def _ray(request: StageRequest, tell: Callable[[str], None]) -> Iterator[Path]:
    """The Ray of this run, and a folder for its records."""
    resources, output = request.spec.resources, Path(request.output)
    gpus = num_gpus(resources, on_this_machine=not is_in_cluster())
    if is_in_cluster():
        count_this_start(request)
        tell("joining Ray")
        with joined_ray(folder=output / ".ray-train") as folder:
            yield folder
    else:
        tell("starting Ray")
        record = output / ".ray"
        with local_ray(workers=resources.workers, gpus=gpus, record=record) as folder:
            yield folder


def _probed(
    request: StageRequest, prepared: Prepared, reporter: Reporter
) -> ProbedPrecision | None:
    """The processor's faster type; None where accelerators train."""
    if request.spec.resources.gpus_per_worker:
        return None
    reporter.progress("comparing bf16 with fp32")
    return probed_precision(
        prepared.model, training=request.spec.training, folder=Path(request.output)
    )


def _outcome(
    request: StageRequest, trained: Trained, *, num_targets: int, probed: ProbedPrecision | None
) -> StageOutcome:
    history = History(**trained["history"])
    last = history.latest("train")
    control = _compared(request, trained, history=history)
    planned = trained["planned_steps"]
    return StageOutcome(
        message=f"{_steps(request, trained, history=history)}; "
        f"held-out loss {history.held_out_at(0):.4f} before, "
        f"{history.best_loss:.4f} at the best step, {history.best_step}",
        artifacts=[Artifact.model_validate(made) for made in trained["artifacts"]],
        facts={
            "method": request.spec.training.method,
            "precision": trained["resolved"]["training.precision"],
            "probedTokensPerSecond": _speeds(probed),
            "numSteps": history.step,
            "plannedSteps": planned,
            "stoppedEarly": history.step < planned,
            "warmupSteps": trained["warmup_steps"],
            "bestStep": history.best_step,
            "bestHeldOutLoss": history.best_loss,
            "finalTrainLoss": last["loss"] if last else None,
            "tokensPerSecond": round(history.tokens / history.seconds, 1),
            **_work(history),
            "numTargets": num_targets,
            "workers": request.spec.resources.workers,
            "trainableParameters": trained["num_trainable"],
            "packing": trained["packing"],
            "memory": memory_facts(request),
            **_preference(trained, history=history),
            "resolved": {**trained["resolved"]},
            "outcome": {name: estimate.as_fact() for name, estimate in outcome(history).items()},
            "remedies": [
                remedy.as_fact()
                for remedy in remedies(request.spec, history, planned_steps=planned)
            ],
            "control": control.as_fact() if control else None,
        },
        versions=library_versions("torch", "transformers", "peft", "ray", "safetensors"),
        warnings=[
            *warnings_of_freezing(request),
            *_doubts(request, history=history),
            *_warnings(trained, history=history, probed=probed),
            *trained["warnings"],
            *warnings_of(request.spec, history, control=control, planned_steps=planned),
        ],
        resumed_from_step=trained["resumed_from"],
    )


def _work(history: History) -> dict[str, JsonValue]:
    """What the steps were made of, and what they took."""
    norms = history.numbers("gradNorm")
    return {
        "tokens": {
            "total": history.tokens,
            "trained": history.trained_tokens,
            "padding": history.padding,
        },
        "mfu": history.mfu,
        "gradNorm": {"median": median(norms), "max": max(norms)},
        "peakMemory": {"residentBytes": history.peak_resident, "deviceBytes": history.peak_device},
    }


def _preference(trained: Trained, *, history: History) -> dict[str, JsonValue]:
    """What only DPO has to tell."""
    seconds = trained["reference_seconds"]
    if seconds is None:
        return {}
    best = {
        kind: round(history.measured_at(history.best_step, kind=kind), 4)
        for kind in (MARGIN, ACCURACY)
    }
    return {"preference": {**best, "referenceSeconds": round(seconds, 1)}}


def _doubts(request: StageRequest, *, history: History) -> list[str]:
    facts = request.inputs[PREPARE.name].facts.get("modelFacts")
    vocab_size = facts.get("vocabSize") if isinstance(facts, dict) else None
    if not isinstance(vocab_size, int):
        return []
    doubt = doubt_about_base(history.held_out_at(0), vocab_size=vocab_size)
    return [doubt] if doubt else []


def warnings_of_freezing(request: StageRequest) -> list[str]:
    """What more than the spec names is frozen."""
    training = request.spec.training
    facts = request.inputs[PREPARE.name].facts.get("modelFacts")
    is_tied = isinstance(facts, dict) and facts["isTied"]
    if training.method == "full" and training.freeze.embeddings and is_tied:
        return [
            "training.freeze.embeddings froze the head, too: this model uses one matrix for both"
        ]
    return []


def _speeds(probed: ProbedPrecision | None) -> JsonValue:
    return dict(probed.tokens_per_second.items()) if probed else None


def _compared(request: StageRequest, trained: Trained, *, history: History) -> Control | None:
    beside = History(**trained["control"]) if trained["control"] else None
    # Without an evaluation after a step it did not come to its end: it diverged.
    return compare(request.spec, history, beside) if beside and beside.best_sums else None


def _steps(request: StageRequest, trained: Trained, *, history: History) -> str:
    if is_taken(request):
        return f"the best trial's weights are taken, of {history.step} steps"
    rule, planned = request.spec.training.early_stopping, trained["planned_steps"]
    if rule is None or history.step >= planned:
        return f"{history.step} steps"
    return (
        f"stopped early at step {history.step} of {planned}: {rule.patience} evaluations without "
        f"an improvement of {rule.min_delta:g} nats"
    )


def _warnings(trained: Trained, *, history: History, probed: ProbedPrecision | None) -> list[str]:
    warnings = []
    used = trained["resolved"]["training.precision"]
    if probed and used != probed.precision:
        warnings.append(
            f"training.precision is {used}, and this processor trains faster in "
            f"{probed.precision}; leave it at auto"
        )
    proof = trained["packing"].get("proof")
    if proof and not proof["holds"]:
        warnings.append(f"rows were padded: {PackingProof.model_validate(proof).in_words}")
    best, base = history.held_out_at(history.best_step), history.held_out_at(0)
    if best >= base:
        warnings.append(
            f"training did not lower the held-out loss: {base:.4f} before, {best:.4f} now"
        )
    if history.best_step < history.step:
        warnings.append(
            f"the held-out loss was lowest after step {history.best_step} of {history.step}; "
            "those weights are kept, and fewer epochs would do"
        )
    return warnings

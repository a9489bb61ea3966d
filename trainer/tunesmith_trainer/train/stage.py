"""The stage `train`: from prepared tokens to `tuned`, the weights with the lowest held-out loss.

Artifacts: `tuned`, a PEFT adapter folder or a model folder; `curve`, JSON lines as `history` says.
Facts: `{"method", "precision", "numSteps", "warmupSteps", "bestStep", "bestHeldOutLoss",
"finalTrainLoss", "tokensPerSecond", "numTargets", "workers", "trainableParameters", "resolved"}`;
losses in nats per target token, or per pair with `"preference": {"margin", "accuracy",
"referenceSeconds"}` of the held-out pairs at the best step; `resolved` every hyperparameter as text
by the path of its field.
`checkpoints/` in the output folder is what a killed run goes on from.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import BadInputError, VerdictError
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.models import TUNED
from tunesmith_trainer.train.checkpoints import newest_step
from tunesmith_trainer.train.history import ACCURACY, MARGIN, History
from tunesmith_trainer.train.ray_cluster import is_in_cluster, joined_ray, local_ray
from tunesmith_trainer.train.ray_train import STARTS, count_start, fit, num_gpus
from tunesmith_trainer.train.worker import CURVE, Trained
from tunesmith_trainer.versions import library_versions


def train(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Train, and return only if every planned step was done.

    Raises:
        BadInputError: there is nothing to train on, or what the spec asks for does not exist here.
        VerdictError: the loss diverged.
        TransientError: workers were lost more often than Ray Train may replace them, or the stage
            itself more often than there were checkpoints.
    """
    prepared = load_prepared(request)
    for name, rows in (("train", prepared.train), ("validation", prepared.validation)):
        if len(rows) == 0:
            raise BadInputError(
                Reason.DATASET_INVALID, f"no {name} rows are left; add rows, or clean less"
            )
    with _ray(request, reporter) as folder:
        reporter.progress("loading the model")
        trained = fit(request, folder=folder)
    # NB: raised here, not in the workers: Ray Train would take it for a lost worker, and try again.
    if "kind" in trained:
        kind = BadInputError if trained["kind"] == "bad input" else VerdictError
        raise kind(Reason(trained["reason"]), trained["message"])
    return _outcome(request, trained, num_targets=prepared.train.num_targets)


@contextmanager
def _ray(request: StageRequest, reporter: Reporter) -> Iterator[Path]:
    """The Ray of this run, and a folder for its records."""
    resources, output = request.spec.resources, Path(request.output)
    gpus = num_gpus(resources, on_this_machine=not is_in_cluster())
    if is_in_cluster():
        count_start(output / STARTS, attempt=request.attempt, newest=newest_step(output))
        reporter.progress("joining Ray")
        with joined_ray(folder=output / ".ray-train") as folder:
            yield folder
    else:
        reporter.progress("starting Ray")
        record = output / ".ray"
        with local_ray(workers=resources.workers, gpus=gpus, record=record) as folder:
            yield folder


def _outcome(request: StageRequest, trained: Trained, *, num_targets: int) -> StageOutcome:
    history = History(**trained["history"])
    last = history.latest("train")
    output = Path(request.output)
    return StageOutcome(
        message=f"{history.step} steps; held-out loss {history.held_out_at(0):.4f} before, "
        f"{history.best_loss:.4f} at the best step, {history.best_step}",
        artifacts=[
            artifact_of("tuned", output / TUNED),
            artifact_of("curve", output / CURVE),
        ],
        facts={
            "method": request.spec.training.method,
            "precision": trained["resolved"]["training.precision"],
            "numSteps": history.step,
            "warmupSteps": trained["warmup_steps"],
            "bestStep": history.best_step,
            "bestHeldOutLoss": history.best_loss,
            "finalTrainLoss": last["loss"] if last else None,
            "tokensPerSecond": round(history.tokens / history.seconds, 1),
            "numTargets": num_targets,
            "workers": request.spec.resources.workers,
            "trainableParameters": trained["num_trainable"],
            **_preference(trained, history=history),
            "resolved": {**trained["resolved"]},
        },
        versions=library_versions("torch", "transformers", "peft", "ray", "safetensors"),
        warnings=_warnings(trained, history=history),
        resumed_from_step=trained["resumed_from"],
    )


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


def _warnings(trained: Trained, *, history: History) -> list[str]:
    warnings = list(trained["warnings"])
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

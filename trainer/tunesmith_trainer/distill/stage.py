"""distill: prune the tuned model, train what is left to answer as the whole did, and judge it.

Reads the tuned model of `train`, the rows of `prepare`, and the losses of `evaluate`, which the
whole model must have. What is left takes the tuned model's place in every stage behind this one.

Artifacts: `distilled`, a model folder in fp32 with its tokenizer, unless the gate has refused it
and the job goes on unpruned; `distillation`, the cut, the scores of all layers, each model on the
way and the curve of the recovery; `recoveryCurve`, JSON lines as `train/history` says.
Facts: `{"accepted", "axes", "shape": {"before", "after"}, "removedLayers", "ladder", "recovery",
"gapRecovered", "minRecovery", "maxKl", "objective", "logits", "method", "numSteps", "bestStep",
"tokens", "seconds", "precision", "resolved"}`, of a ladder of ratios also `tried`; each of `ladder`
is a `Rung` as JSON, losses in nats per target token.
"""

import shutil
from pathlib import Path

import numpy as np
from pydantic import JsonValue
from transformers import PreTrainedModel

from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.compress.merge import copy_tokenizer
from tunesmith_trainer.distill.attempts import first_kept, ratios_of
from tunesmith_trainer.distill.ladder import Ladder
from tunesmith_trainer.distill.recover import CURVE
from tunesmith_trainer.distill.student import (
    LIBRARIES,
    DistillRun,
    Taught,
    clear,
    facts_of,
    taught_student,
    write_document,
)
from tunesmith_trainer.evaluate.suites import few_rows_warnings
from tunesmith_trainer.models import DISTILLED, KEPT_TOKENS
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.versions import library_versions


def distill(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a smaller model in `distilled/`, or none where the job goes on unpruned.

    Raises:
        StageError: as `distill_once` does.
    """
    if len(ratios_of(request)) > 1:
        return first_kept(request, reporter, attempt=distill_once)
    return distill_once(request, reporter)


def distill_once(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """By the ratio of the manifest alone.

    Raises:
        BadInputError: the model cannot be cut so.
        VerdictError: the gate refused what was left, merging changed the model, or the recovery
            diverged.
    """
    run = DistillRun.of(request, reporter)
    refuse_undoable(request, model=run.prepared.model)
    return judged(run, taught_student(run))


def judged(run: DistillRun, taught: Taught) -> StageOutcome:
    """Write the recovered model if it keeps enough, and what was found in any case.

    Raises:
        VerdictError: it does not, and the job is not to go on unpruned.
    """
    gate = run.prune.gate
    broken = taught.ladder.shortfalls(gate)
    facts: dict[str, JsonValue] = {
        "accepted": not broken,
        **facts_of(run, taught),
        "minRecovery": gate.min_recovery,
        "maxKl": gate.max_kl,
    }
    document = run.output / "distillation.json"
    settings = run.prune.model_dump(mode="json", by_alias=True)
    write_document(document, run, taught, told={**facts, "settings": settings})
    artifacts = {"distillation": document, "recoveryCurve": run.output / CURVE}
    if not broken:
        artifacts[DISTILLED] = _written(run, taught.model)
    run.warnings += few_rows_warnings(taught.ladder.tuned.losses)
    if broken and gate.fallback == "unpruned":
        run.warnings.append(f"{'; '.join(broken)}; the job goes on with the tuned model, unpruned.")
    outcome = _outcome(run, taught, facts=facts, artifacts=artifacts)
    if broken and gate.fallback == "fail":
        raise VerdictError(
            Reason.COMPRESSION_LOSS_EXCEEDED,
            f"{'; '.join(broken)}; prune less, recover for longer "
            "(compression.prune.recovery.epochs), loosen the bound, or set fallback: unpruned.",
            findings=outcome,
        )
    clear(run)
    return outcome


def _outcome(
    run: DistillRun, taught: Taught, *, facts: dict[str, JsonValue], artifacts: dict[str, Path]
) -> StageOutcome:
    return StageOutcome(
        message=taught.ladder.told,
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
        evaluation=_results(run, taught.ladder),
        facts=facts,
        versions=library_versions(*LIBRARIES),
        warnings=list(run.warnings),
        resumed_from_step=taught.recovered.resumed_from,
    )


def _results(run: DistillRun, ladder: Ladder) -> list[EvaluationResult]:
    settings = run.request.spec.evaluation.bootstrap
    return [
        result
        for rung in (ladder.pruned, ladder.recovered)
        for result in rung.results(tuned=ladder.tuned, settings=settings)
    ]


def _written(run: DistillRun, student: PreTrainedModel) -> Path:
    folder = run.output / DISTILLED
    shutil.rmtree(folder, ignore_errors=True)
    # Training had switched it off, and generation of whoever loads this would crawl.
    student.config.use_cache = True
    student.save_pretrained(folder)
    copy_tokenizer(run.prepared.model, folder)
    if run.tokens is not None:
        np.save(folder / KEPT_TOKENS, np.array(run.tokens))
    return folder

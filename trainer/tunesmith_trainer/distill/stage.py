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

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import JsonValue
from pydantic.alias_generators import to_camel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.prune import Prune
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, digest_json
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.pruned_shape import Shape
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.merge import copy_tokenizer, refuse_changed
from tunesmith_trainer.data.held_out_roles import (
    load_rows_that_choose,
    numbers_of,
)
from tunesmith_trainer.data.prepared import Prepared, load_prepared, load_replay
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.distill.attempts import first_kept, ratios_of
from tunesmith_trainer.distill.cut import Cut, apply_cut, choose_cut
from tunesmith_trainer.distill.importance import losses_without, measure_importance
from tunesmith_trainer.distill.ladder import PRUNED, RECOVERED, Ladder, Rung
from tunesmith_trainer.distill.prunable import planned_shape, shape_of
from tunesmith_trainer.distill.recover import (
    CURVE,
    Recovered,
    recover,
    remove_leftovers,
    whole_model,
)
from tunesmith_trainer.distill.vocabulary import (
    kept_tokens,
    require_equal_rows,
    trim_embeddings,
    used_tokens,
    write_trimmed_tokenizer,
)
from tunesmith_trainer.evaluate.distributions import Distributions
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import ready_for_scoring
from tunesmith_trainer.evaluate.scored_rows import ScoredRows
from tunesmith_trainer.evaluate.suites import GENERAL, HELD_OUT, few_rows_warnings, score_suites
from tunesmith_trainer.models import DISTILLED, KEPT_TOKENS, load_tokenizer, load_tuned
from tunesmith_trainer.prepare.preflight import refuse_undoable
from tunesmith_trainer.versions import library_versions

LIBRARIES: Final = ("torch", "transformers", "peft", "safetensors")
_TUNED: Final = "tuned"
_PRUNED: Final = "pruned"
_CUT: Final = "cut.json"
_TRIMMED: Final = "trimmed-tokenizer"


@dataclass(slots=True)
class _DistillRun:
    """What the stage holds on its way down."""

    request: StageRequest
    reporter: Reporter
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    warnings: list[str] = field(default_factory=list)
    layer_scores: list[float] = field(default_factory=list)
    # The ids that stay, where tokens go; rows and tokenizer are those of what is left then.
    tokens: list[int] | None = None
    num_tokens: int = 0

    @classmethod
    def of(cls, request: StageRequest, reporter: Reporter) -> "_DistillRun":
        """The suites are those of `evaluate`, row by row: its losses prove the merge."""
        scored = ScoredRows.load(request)
        return cls(request, reporter, scored.prepared, scored.tokenizer, scored.suites)

    @property
    def prune(self) -> Prune:
        prune = self.request.spec.compression.prune
        if prune is None:
            raise ValueError("the stage needs spec.compression.prune")
        return prune

    @property
    def output(self) -> Path:
        return Path(self.request.output)

    @property
    def pruned(self) -> Path:
        return self.output / _PRUNED

    def say(self, message: str, done: int | None = None, total: int | None = None) -> None:
        self.reporter.progress(message, step=done, total_steps=total)

    def load_tuned(self) -> PreTrainedModel:
        """The tuned model, with the tokens that stay."""
        model = load_tuned(self.request, dtype=torch.float32)
        if self.tokens is not None:
            trim_embeddings(model, kept=self.tokens)
        return model

    def trim(self) -> None:
        """From now on rows, tokenizer and tuned model are of the tokens that stay.

        Raises:
            VerdictError: the smaller tokenizer makes other tokens of the general text.
        """
        whole, base = load_prepared(self.request), self.prepared.model
        self.tokens = kept_tokens(base, used_tokens(self.request, whole, self.suites[GENERAL]))
        numbers = numbers_of(np.array(self.tokens))
        folder = self.output / _TRIMMED
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        copy_tokenizer(base, folder)
        write_trimmed_tokenizer(folder, kept=self.tokens)
        self.prepared = self.prepared.renumbered(numbers, model=folder)
        self.tokenizer = load_tokenizer(folder)
        expected = self.suites[GENERAL].renumbered(numbers)
        found = load_general_text(
            self.request, self.tokenizer, context_length=self.request.spec.training.sequence_length
        )
        require_equal_rows(found.rows, expected)
        self.suites = {HELD_OUT: self.prepared.validation, GENERAL: expected}

    def rung(
        self, model: PreTrainedModel, *, split: str, tuned: Distributions | None = None
    ) -> Rung:
        """The model's place on the ladder; `tuned` is what it is compared with."""
        losses = score_suites(
            model,
            self.suites,
            pad_id=pad_id_of(self.tokenizer),
            say=lambda suite, done, total: self.say(f"{split}: {suite}", done, total),
        )
        divergence = None
        if tuned is not None:
            self.say(f"{split}: divergence")
            divergence = tuned.divergence_of(model)
        return Rung(split, _num_parameters(model), losses, divergence)


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
    run = _DistillRun.of(request, reporter)
    refuse_undoable(request, model=run.prepared.model)
    run.say("loading the tuned model")
    teacher = ready_for_scoring(run.load_tuned())
    tuned = run.rung(teacher, split=_TUNED)
    refuse_changed(request, tuned.losses)
    whole, run.num_tokens = shape_of(teacher), teacher.config.vocab_size
    if "vocabulary" in run.prune.axes:
        run.say("leaving out tokens")
        run.trim()
        trim_embeddings(teacher, kept=run.tokens or [])
    run.say("distributions of the tuned model")
    spoken = Distributions.of(teacher, run.prepared.validation, folder=run.output)
    cut = kept_or_chosen_cut(run, teacher)
    # Two at a time are held only while one learns from the other.
    del teacher
    pruned = run.rung(pruned_model(run, cut), split=PRUNED, tuned=spoken)
    recovered = _recovered(run, cut)
    run.say("loading the recovered model")
    student = ready_for_scoring(whole_model(recovered, pruned=run.pruned))
    ladder = Ladder(tuned, pruned, run.rung(student, split=RECOVERED, tuned=spoken))
    return judged(run, student, recovered, ladder, cut=cut, whole=whole)


def kept_or_chosen_cut(run: _DistillRun, model: PreTrainedModel) -> Cut:
    """The cut that an interrupted attempt has begun with, or a new one."""
    path = run.output / _CUT
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        run.layer_scores = kept["layerScores"]
        return Cut.model_validate(kept["cut"])
    left = planned_shape(run.request.spec.compression, model)
    rows = _calibration_rows(run)
    importance = measure_importance(
        model, rows, on_row=lambda done, total: run.say("judging what matters", done, total)
    )
    if run.prune.importance == "loss" and "layers" in run.prune.axes:
        scores = losses_without(
            model, rows, on_layer=lambda done, total: run.say("leaving out layers", done, total)
        )
        importance = importance.with_layers(scores)
    run.layer_scores = [float(score) for score in importance.layers]
    cut = choose_cut(importance, whole=shape_of(model), left=left)
    cut = cut.model_copy(update={"tokens": run.tokens})
    kept = {"cut": cut.model_dump(mode="json"), "layerScores": run.layer_scores}
    write_atomically(path, json.dumps(kept))
    return cut


def pruned_model(run: _DistillRun, cut: Cut) -> PreTrainedModel:
    """The tuned model with the parts gone, written to `pruned/` for the recovery to begin with."""
    run.say("pruning")
    model = run.load_tuned()
    apply_cut(model, cut)
    temporary = run.output / f".{_PRUNED}"
    for leftover in (temporary, run.pruned):
        shutil.rmtree(leftover, ignore_errors=True)
    # In fp32, as it was merged: compress rounds once, at the end.
    model.save_pretrained(temporary)
    copy_tokenizer(run.prepared.model, temporary)
    temporary.rename(run.pruned)
    return ready_for_scoring(model)


def _recovered(run: _DistillRun, cut: Cut) -> Recovered:
    try:
        return recover(
            run.request,
            _rows_that_choose(run),
            replay=_replay(run),
            pruned=run.pruned,
            cut_digest=digest_json(cut.model_dump(mode="json")),
            load_teacher=run.load_tuned,
            reporter=run.reporter,
        )
    except VerdictError as error:
        # The loop knows of one learning rate alone.
        message = error.message.replace(
            "training.optimizer.learningRate", "compression.prune.recovery.learningRate"
        )
        raise VerdictError(error.reason, message, findings=error.findings) from error


def _rows_that_choose(run: _DistillRun) -> Prepared:
    prepared = load_rows_that_choose(run.request)
    if run.tokens is None:
        return prepared
    return prepared.renumbered(numbers_of(np.array(run.tokens)), model=run.prepared.model)


def _replay(run: _DistillRun) -> TokenRows | None:
    if run.request.spec.dataset.replay is None:
        return None
    replay = load_replay(run.request)
    return replay if run.tokens is None else replay.renumbered(numbers_of(np.array(run.tokens)))


def judged(
    run: _DistillRun,
    student: PreTrainedModel,
    recovered: Recovered,
    ladder: Ladder,
    *,
    cut: Cut,
    whole: Shape,
) -> StageOutcome:
    """Write the recovered model if it keeps enough, and what was found in any case.

    Raises:
        VerdictError: it does not, and the job is not to go on unpruned.
    """
    gate = run.prune.gate
    broken = ladder.shortfalls(gate)
    facts: dict[str, JsonValue] = {
        "accepted": not broken,
        **_facts(run, recovered, ladder, cut=cut, before=whole, after=shape_of(student)),
    }
    artifacts = {"distillation": _document(run, facts, recovered, cut=cut)}
    artifacts["recoveryCurve"] = run.output / CURVE
    if not broken:
        artifacts[DISTILLED] = _written(run, student)
    run.warnings += few_rows_warnings(ladder.tuned.losses)
    if broken and gate.fallback == "unpruned":
        run.warnings.append(f"{'; '.join(broken)}; the job goes on with the tuned model, unpruned.")
    outcome = _outcome(run, recovered, ladder, facts=facts, artifacts=artifacts)
    if broken and gate.fallback == "fail":
        raise VerdictError(
            Reason.COMPRESSION_LOSS_EXCEEDED,
            f"{'; '.join(broken)}; prune less, recover for longer "
            "(compression.prune.recovery.epochs), loosen the bound, or set fallback: unpruned.",
            findings=outcome,
        )
    _clear(run)
    return outcome


def _outcome(
    run: _DistillRun,
    recovered: Recovered,
    ladder: Ladder,
    *,
    facts: dict[str, JsonValue],
    artifacts: dict[str, Path],
) -> StageOutcome:
    losses = [rung.loss(HELD_OUT) for rung in (ladder.tuned, ladder.pruned, ladder.recovered)]
    tuned, pruned, reached = (f"{loss:.4f}" for loss in losses)
    return StageOutcome(
        message=f"{ladder.recovered.num_parameters:,} of {ladder.tuned.num_parameters:,} "
        f"parameters; held-out loss {tuned} before, {pruned} pruned, {reached} recovered",
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
        evaluation=_results(run, ladder),
        facts=facts,
        versions=library_versions(*LIBRARIES),
        warnings=list(run.warnings),
        resumed_from_step=recovered.resumed_from,
    )


def _results(run: _DistillRun, ladder: Ladder) -> list[EvaluationResult]:
    settings = run.request.spec.evaluation.bootstrap
    return [
        result
        for rung in (ladder.pruned, ladder.recovered)
        for result in rung.results(tuned=ladder.tuned, settings=settings)
    ]


def _facts(
    run: _DistillRun,
    recovered: Recovered,
    ladder: Ladder,
    *,
    cut: Cut,
    before: Shape,
    after: Shape,
) -> dict[str, JsonValue]:
    history, prune = recovered.history, run.prune
    return {
        "axes": list(prune.axes),
        "shape": {
            "before": _shape_json(before, num_tokens=run.num_tokens),
            "after": _shape_json(
                after, num_tokens=run.num_tokens if run.tokens is None else len(run.tokens)
            ),
        },
        "removedLayers": [layer for layer in range(before.layers) if layer not in cut.layers],
        "ladder": [rung.as_json() for rung in (ladder.tuned, ladder.pruned, ladder.recovered)],
        "recovery": {suite: ladder.recovery(suite) for suite in run.suites},
        "gapRecovered": {suite: ladder.gap_recovered(suite) for suite in run.suites},
        "minRecovery": prune.gate.min_recovery,
        "maxKl": prune.gate.max_kl,
        "objective": prune.recovery.objective,
        "logits": prune.recovery.logits,
        "method": prune.recovery.method,
        "precision": recovered.config.precision,
        "numSteps": history.step,
        "bestStep": history.best_step,
        "tokens": history.tokens,
        "seconds": round(history.seconds, 1),
        "resolved": {"compression.prune.recovery.maxSteps": str(recovered.config.num_steps)},
    }


def _document(
    run: _DistillRun, facts: dict[str, JsonValue], recovered: Recovered, *, cut: Cut
) -> Path:
    """`distillation.json`: the facts, what stays of each layer, and the losses along the way."""
    path = run.output / "distillation.json"
    told = {
        **facts,
        "settings": run.prune.model_dump(mode="json", by_alias=True),
        "layerScores": run.layer_scores,
        "cut": cut.model_dump(mode="json"),
        "curve": [point for point in recovered.history.points if point["kind"] != "train"],
    }
    write_atomically(path, json.dumps(told))
    return path


def _written(run: _DistillRun, student: PreTrainedModel) -> Path:
    folder = run.output / DISTILLED
    shutil.rmtree(folder, ignore_errors=True)
    # Training had switched it off, and generation of whoever loads this would crawl.
    student.config.use_cache = True
    student.save_pretrained(folder)
    copy_tokenizer(run.prepared.model, folder)
    if run.tokens is not None:
        np.save(folder / KEPT_TOKENS, np.array(run.tokens))
    return folder


def _clear(run: _DistillRun) -> None:
    """Take away what only another attempt would go on from."""
    for name in (_PRUNED, _TUNED, _TRIMMED):
        shutil.rmtree(run.output / name, ignore_errors=True)
    remove_leftovers(run.output)


def _calibration_rows(run: _DistillRun) -> TokenRows:
    """Training rows in seeded order, never held-out ones, by which the result is judged."""
    rows = run.prepared.train
    order = np.random.default_rng(run.request.spec.dataset.seed).permutation(len(rows))
    used: Sequence[int] = [int(row) for row in order[: run.prune.calibration_rows]]
    return rows.subset(used)


def _num_parameters(model: PreTrainedModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _shape_json(shape: Shape, *, num_tokens: int) -> dict[str, JsonValue]:
    told: dict[str, JsonValue] = {to_camel(name): n for name, n in asdict(shape).items()}
    return {**told, "tokens": num_tokens}

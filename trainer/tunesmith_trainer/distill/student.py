"""A smaller model out of the tuned one: cut, then trained to answer as the whole did.

What `distill` puts into the tuned model's place, and `draft` beside it, is made here alike. A
killed attempt goes on from the cut that it had begun with, and from its newest checkpoint.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import JsonValue
from pydantic.alias_generators import to_camel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.prune import Prune
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.pruned_shape import Shape
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.merge import copy_tokenizer, refuse_changed
from tunesmith_trainer.data.held_out_roles import kept_before, load_rows_that_choose, numbers_of
from tunesmith_trainer.data.prepared import Prepared, load_prepared, load_replay
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.distill.cut import Cut, apply_cut, choose_cut
from tunesmith_trainer.distill.importance import losses_without, measure_importance
from tunesmith_trainer.distill.ladder import PRUNED, RECOVERED, Ladder, Rung
from tunesmith_trainer.distill.prunable import planned_shape, shape_of
from tunesmith_trainer.distill.recover import Recovered, recover, remove_leftovers, whole_model
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
from tunesmith_trainer.evaluate.suites import GENERAL, HELD_OUT, score_suites
from tunesmith_trainer.models import load_tokenizer, load_tuned

LIBRARIES: Final = ("torch", "transformers", "peft", "safetensors")
_TUNED: Final = "tuned"
_PRUNED: Final = "pruned"
_CUT: Final = "cut.json"
_TRIMMED: Final = "trimmed-tokenizer"


@dataclass(slots=True)
class DistillRun:
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
    def of(cls, request: StageRequest, reporter: Reporter) -> "DistillRun":
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


@dataclass(frozen=True, slots=True)
class Taught:
    """The recovered model, and what was seen on the way to it; `whole` is the tuned one's shape."""

    model: PreTrainedModel
    recovered: Recovered
    ladder: Ladder
    cut: Cut
    whole: Shape


def taught_student(run: DistillRun) -> Taught:
    """Cut the tuned model, and win back what that cost.

    Raises:
        BadInputError: the model cannot be cut so.
        VerdictError: merging changed the model, or the recovery diverged.
    """
    run.say("loading the tuned model")
    teacher = ready_for_scoring(run.load_tuned())
    tuned = run.rung(teacher, split=_TUNED)
    refuse_changed(run.request, tuned.losses)
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
    return Taught(student, recovered, ladder, cut, whole)


def kept_or_chosen_cut(run: DistillRun, model: PreTrainedModel) -> Cut:
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


def pruned_model(run: DistillRun, cut: Cut) -> PreTrainedModel:
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


def _recovered(run: DistillRun, cut: Cut) -> Recovered:
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


def _rows_that_choose(run: DistillRun) -> Prepared:
    prepared = load_rows_that_choose(run.request)
    if run.tokens is None:
        return prepared
    return prepared.renumbered(numbers_of(np.array(run.tokens)), model=run.prepared.model)


def _replay(run: DistillRun) -> TokenRows | None:
    if run.request.spec.dataset.replay is None:
        return None
    replay = load_replay(run.request)
    # Where tokens went here, or in the stage before this one.
    kept = np.array(run.tokens) if run.tokens is not None else kept_before(run.request)
    return replay if kept is None else replay.renumbered(numbers_of(kept))


def facts_of(run: DistillRun, taught: Taught) -> dict[str, JsonValue]:
    """What was cut, each model on the way, and how the recovery went."""
    history, ladder, recovery = taught.recovered.history, taught.ladder, run.prune.recovery
    before, left = taught.whole, taught.cut.layers
    num_tokens = run.num_tokens if run.tokens is None else len(run.tokens)
    return {
        "axes": list(run.prune.axes),
        "shape": {
            "before": _shape_json(before, num_tokens=run.num_tokens),
            "after": _shape_json(shape_of(taught.model), num_tokens=num_tokens),
        },
        "removedLayers": [layer for layer in range(before.layers) if layer not in left],
        "ladder": [rung.as_json() for rung in (ladder.tuned, ladder.pruned, ladder.recovered)],
        "recovery": {suite: ladder.recovery(suite) for suite in run.suites},
        "gapRecovered": {suite: ladder.gap_recovered(suite) for suite in run.suites},
        "objective": recovery.objective,
        "logits": recovery.logits,
        "method": recovery.method,
        "precision": taught.recovered.config.precision,
        "numSteps": history.step,
        "bestStep": history.best_step,
        "tokens": history.tokens,
        "seconds": round(history.seconds, 1),
        "resolved": {"compression.prune.recovery.maxSteps": str(taught.recovered.config.num_steps)},
    }


def write_document(
    path: Path, run: DistillRun, taught: Taught, *, told: Mapping[str, JsonValue]
) -> None:
    """What is told of it, what stays of each layer, and the losses along the way."""
    document = {
        **told,
        "layerScores": run.layer_scores,
        "cut": taught.cut.model_dump(mode="json"),
        "curve": [point for point in taught.recovered.history.points if point["kind"] != "train"],
    }
    write_atomically(path, json.dumps(document))


def clear(run: DistillRun) -> None:
    """Take away what only another attempt would go on from."""
    for name in (_PRUNED, _TUNED, _TRIMMED):
        shutil.rmtree(run.output / name, ignore_errors=True)
    remove_leftovers(run.output)


def _calibration_rows(run: DistillRun) -> TokenRows:
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

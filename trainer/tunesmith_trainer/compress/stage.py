"""compress: merge, quantize, prove that little was lost, and write reference answers.

Reads the weights of `train`, and the rows of `prepare` to calibrate and to score. The model that
ships also answers the held-out prompts, for people to see beside the tuned one. The quantized
model is loaded again from disk before it is scored, and runs in transformers as it will in the
server: with quantized activations where the scheme has them.
"""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, files_below
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.answers import answers_scored
from tunesmith_trainer.compress.merge import refuse_changed, save_merged
from tunesmith_trainer.compress.quantize import quantize_folder
from tunesmith_trainer.compress.recovery import Try, recovery_of, required_recovery, shortfall
from tunesmith_trainer.compress.reference import reference_answers, reference_prompts
from tunesmith_trainer.compress.schemes import SCHEMES, SchemeName, refuse_unrunnable
from tunesmith_trainer.data.prepared import Prepared, load_prepared
from tunesmith_trainer.data.tokens import TokenRows
from tunesmith_trainer.evaluate.general import general_text
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.pair import load_for_scoring, ready_for_scoring
from tunesmith_trainer.evaluate.scoring import RowLosses
from tunesmith_trainer.evaluate.suites import GENERAL, HELD_OUT, loss_results, score_suites
from tunesmith_trainer.models import load_tokenizer, load_tuned
from tunesmith_trainer.versions import library_versions

LIBRARIES = ("torch", "transformers", "peft", "llmcompressor", "compressed-tensors")
FEW_CALIBRATION_ROWS = 32


@dataclass(slots=True)
class _Work:
    """What the stage holds while it goes down its list of schemes."""

    request: StageRequest
    reporter: Reporter
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    warnings: list[str]
    tries: list[Try] = field(default_factory=list)
    merged_bytes: int = 0

    @property
    def merged(self) -> Path:
        return Path(self.request.output) / "merged"

    @property
    def compressed(self) -> Path:
        return Path(self.request.output) / "compressed"

    def say(self, message: str, done: int | None = None, total: int | None = None) -> None:
        self.reporter.progress(message, step=done, total_steps=total)

    def score(self, model: PreTrainedModel, *, name: str) -> dict[str, RowLosses]:
        return score_suites(
            model,
            self.suites,
            pad_id=pad_id_of(self.tokenizer),
            say=lambda suite, done, total: self.say(f"{name}: {suite}", done, total),
        )


def compress(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a model that vLLM loads in `compressed/`, and what it must say in `reference.json`.

    Raises:
        BadInputError: the scheme does not fit the model or this machine.
        VerdictError: no allowed scheme keeps enough, or merging changed the model.
    """
    quantize = request.spec.compression.quantize
    refuse_unrunnable(quantize, has_gpu=torch.cuda.is_available())
    work = _opened(request, reporter)
    tuned = _merge(work)
    model, results = _first_accepted(work, tuned)
    results += _answered(work, model)
    work.say("reference answers")
    reference = _write_reference(work, model)
    shutil.rmtree(work.merged, ignore_errors=True)
    return _outcome(
        work, results, artifacts={"compressed": work.compressed, "reference": reference}
    )


def _opened(request: StageRequest, reporter: Reporter) -> _Work:
    prepared = load_prepared(request)
    tokenizer = load_tokenizer(prepared.model)
    general = general_text(request, tokenizer, context_length=request.spec.training.sequence_length)
    suites = {HELD_OUT: prepared.validation, GENERAL: general.rows}
    return _Work(request, reporter, prepared, tokenizer, suites, warnings=[])


def _merge(work: _Work) -> dict[str, RowLosses]:
    """Write the merged model; return its losses in fp32, before anything is rounded."""
    work.say("merging")
    model = ready_for_scoring(load_tuned(work.request, dtype=torch.float32))
    losses = work.score(model, name="merged")
    refuse_changed(work.request, losses)
    save_merged(model, work.merged, tokenizer_folder=work.prepared.model)
    work.merged_bytes = _bytes_below(work.merged)
    return losses


def _first_accepted(
    work: _Work, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, list[EvaluationResult]]:
    """Try the scheme that was asked for, then wider ones as far as the gate allows."""
    name: SchemeName = work.request.spec.compression.quantize.scheme
    while True:
        model, losses = _try(work, name, tuned=tuned)
        results = _results(work.request, losses, tuned=tuned)
        if work.tries[-1].is_accepted:
            return model, results
        name = _next_scheme(work, results)


def _try(
    work: _Work, name: SchemeName, *, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, dict[str, RowLosses]]:
    started = time.monotonic()
    work.say(f"quantizing: {name}")
    _build(work, name)
    model = load_for_scoring(work.compressed)
    losses = work.score(model, name=name)
    work.tries.append(
        Try(
            scheme=name,
            recovery=recovery_of(tuned, losses),
            min_recovery=required_recovery(name, work.request.spec.compression),
            seconds=time.monotonic() - started,
            num_bytes=_bytes_below(work.compressed),
        )
    )
    return model, losses


def _build(work: _Work, name: SchemeName) -> None:
    if name == "none":
        shutil.rmtree(work.compressed, ignore_errors=True)
        work.merged.rename(work.compressed)
        return
    quantize_folder(
        work.merged,
        work.compressed,
        name=name,
        settings=work.request.spec.compression.quantize,
        calibration=_calibration(work, name),
    )


def _calibration(work: _Work, name: SchemeName) -> list[list[int]]:
    """Training rows in seeded order: the same rows whatever the scheme."""
    rows, wanted = work.prepared.train, work.request.spec.compression.quantize.calibration_rows
    used = min(len(rows), wanted)
    if name == "W4A16" and used < FEW_CALIBRATION_ROWS:
        work.warnings.append(
            f"W4A16 was calibrated on {used} training rows; fewer than {FEW_CALIBRATION_ROWS} "
            "make a poor fit."
        )
    order = np.random.default_rng(work.request.spec.dataset.seed).permutation(len(rows))
    return [rows.row(int(index))[0].tolist() for index in order[:used]]


def _next_scheme(work: _Work, results: list[EvaluationResult]) -> SchemeName:
    refused = work.tries[-1]
    wider = SCHEMES[refused.scheme].wider
    if wider is None or work.request.spec.compression.gate.fallback == "fail":
        remedy = "lower it" if wider is None else f"choose {wider}, or set fallback: widen"
        raise VerdictError(
            Reason.COMPRESSION_LOSS_EXCEEDED,
            f"{shortfall(refused)} (spec.compression.gate.minRecovery); {remedy}.",
            findings=_outcome(work, results, artifacts={}),
        )
    work.warnings.append(f"{shortfall(refused)}; {wider} was tried instead.")
    return wider


def _results(
    request: StageRequest, losses: dict[str, RowLosses], *, tuned: dict[str, RowLosses]
) -> list[EvaluationResult]:
    settings = request.spec.evaluation.bootstrap
    return [
        result
        for suite, found in losses.items()
        for result in loss_results(
            suite, found, base=tuned[suite], split="compressed", settings=settings
        )
    ]


def _answered(work: _Work, model: PreTrainedModel) -> list[EvaluationResult]:
    work.say("answers")
    found = answers_scored(
        work.request,
        work.prepared,
        model=model,
        tokenizer=work.tokenizer,
        on_batch=lambda done, total: work.say("answers", done, total),
    )
    return [found] if found else []


def _write_reference(work: _Work, model: PreTrainedModel) -> Path:
    answers = reference_answers(
        model,
        work.tokenizer,
        reference_prompts(work.request, work.prepared, work.tokenizer),
        max_new_tokens=work.request.spec.verification.max_new_tokens,
        on_batch=lambda done, total: work.say("reference answers", done, total),
    )
    path = Path(work.request.output) / "reference.json"
    write_atomically(path, json.dumps(answers))
    return path


def _outcome(
    work: _Work, results: Sequence[EvaluationResult], *, artifacts: dict[str, Path]
) -> StageOutcome:
    last = work.tries[-1]
    return StageOutcome(
        message=f"{last.scheme}: recovery {last.lowest:.4f}, {last.num_bytes:,} bytes "
        f"(bf16: {work.merged_bytes:,})",
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
        evaluation=list(results),
        facts={
            "scheme": last.scheme,
            "asked": work.request.spec.compression.quantize.scheme,
            "dtype": "float32",
            "tries": [each.as_json() for each in work.tries],
            "mergedBytes": work.merged_bytes,
            "compressedBytes": last.num_bytes,
        },
        versions=library_versions(*LIBRARIES),
        warnings=list(work.warnings),
    )


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder))

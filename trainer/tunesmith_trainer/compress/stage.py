"""compress: merge, quantize, prove that little was lost, and write the reference for `verify`.

Reads the weights of `train`, or of `distill` where the job is pruned, the rows of `prepare` to
calibrate and to score, and the numbers of `evaluate` to compare with. The model that ships also
answers the held-out prompts, for people to see beside the tuned one. The quantized model is loaded
again from disk before it is scored, and runs in transformers as it will in the server: with
quantized activations where the scheme has them.

Facts: `{"scheme", "asked", "dtype", "tries", "mergedBytes", "compressedBytes", "resolved"}`; each
of `tries` is a `SchemeTrial` as JSON. `fairness` and `robustness` are records as in `evaluate`,
where the job asks for them.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.compression import SchemeName
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, files_below
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.divergence import Distributions
from tunesmith_trainer.compress.merge import refuse_changed, save_merged
from tunesmith_trainer.compress.quantize import quantize_folder
from tunesmith_trainer.compress.recovery_gate import (
    SchemeTrial,
    recovery_of,
    required_recovery,
    shortfall,
)
from tunesmith_trainer.compress.reference_generations import generate_reference, reference_prompts
from tunesmith_trainer.compress.schemes import (
    SCHEMES,
    group_size_for,
    quantized_widths,
    refuse_unrunnable,
)
from tunesmith_trainer.compress.sensitivity import layer_pattern, most_sensitive, sensitivities
from tunesmith_trainer.data.held_out_roles import load_rows_of_stage
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.devices import has_accelerator
from tunesmith_trainer.evaluate.gates import judge
from tunesmith_trainer.evaluate.general_text import load_general_text
from tunesmith_trainer.evaluate.generation import Answer, generate_answers, pad_id_of
from tunesmith_trainer.evaluate.generation_metric import choose_generation_suite, generation_result
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, load_for_scoring, ready_for_scoring
from tunesmith_trainer.evaluate.suites import (
    GENERAL,
    HELD_OUT,
    Findings,
    loss_results,
    mean_loss,
    score_suites,
)
from tunesmith_trainer.evaluate.trust import TrustMeasures, TrustTests
from tunesmith_trainer.fairness.served_pairs import served_pairs
from tunesmith_trainer.models import TUNED, distilled_folder, load_tokenizer, load_tuned
from tunesmith_trainer.versions import library_versions

LIBRARIES = ("torch", "transformers", "peft", "llmcompressor", "compressed-tensors")
# GPTQ solves for each layer's weights from these rows' activations; the other schemes only look for
# the largest of them.
FEW_CALIBRATION_ROWS = 32


@dataclass(slots=True)
class CompressionRun:
    """What the stage holds while it goes down its list of schemes."""

    request: StageRequest
    reporter: Reporter
    prepared: Prepared
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    trust: TrustTests = field(default_factory=TrustTests)
    # Of the last model that was measured, beside the merged one.
    findings: Findings | None = None
    merged_trust: TrustMeasures | None = None
    warnings: list[str] = field(default_factory=list)
    trials: list[SchemeTrial] = field(default_factory=list)
    # Of the tuned model, for the divergence of what is made of it.
    distributions: Distributions | None = None
    group_size: int | None = None
    merged_bytes: int = 0

    @classmethod
    def of(cls, request: StageRequest, reporter: Reporter) -> "CompressionRun":
        """The suites are those of `evaluate`, row by row: its losses prove the merge."""
        prepared = load_rows_of_stage(request)
        tokenizer = load_tokenizer(prepared.model)
        general = load_general_text(
            request, tokenizer, context_length=request.spec.training.sequence_length
        )
        suites = {HELD_OUT: prepared.validation, GENERAL: general.rows}
        trust = TrustTests.load(request, prepared, tokenizer)
        return cls(request, reporter, prepared, tokenizer, suites, trust)

    @property
    def spec(self) -> FineTuneJobSpec:
        return self.request.spec

    @property
    def merged(self) -> Path:
        return Path(self.request.output) / "merged"

    @property
    def adapter_reference(self) -> Path:
        return Path(self.request.output) / "adapter-reference.json"

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

    def measure_trust(self, model: PreTrainedModel, *, name: str) -> TrustMeasures:
        return self.trust.measure(
            model,
            say=lambda suite, done, total: self.say(f"{name}: {suite}", done, total),
        )

    def outcome(
        self, results: Sequence[EvaluationResult], *, artifacts: dict[str, Path]
    ) -> StageOutcome:
        """What was found with the last scheme that was tried."""
        last = self.trials[-1]
        resolved: dict[str, JsonValue] = {}
        if self.group_size is not None:
            resolved["compression.quantize.groupSize"] = self.group_size
        return StageOutcome(
            message=f"{last.scheme}: recovery {last.lowest:.4f}, {last.kl:.4f} nats a token from "
            f"the tuned model, {last.num_bytes:,} bytes "
            f"(bf16: {self.merged_bytes:,})",
            artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
            evaluation=list(results),
            facts={
                "scheme": last.scheme,
                "asked": self.spec.compression.quantize.scheme,
                "dtype": "float32",
                "tries": [trial.as_json() for trial in self.trials],
                "mergedBytes": self.merged_bytes,
                "compressedBytes": last.num_bytes,
                **(self.findings.record if self.findings else {}),
                "resolved": resolved,
            },
            versions=library_versions(*LIBRARIES),
            warnings=list(self.warnings),
        )


def compress(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a model that vLLM loads in `compressed/`, and what it must say in `reference.json`.

    Raises:
        BadInputError: the scheme does not fit the model or this machine.
        VerdictError: no allowed scheme keeps enough, or merging changed the model.
    """
    refuse_unrunnable(request.spec.compression.quantize, has_gpu=has_accelerator())
    run = CompressionRun.of(request, reporter)
    tuned = merge(run)
    model, results = compress_until_accepted(run, tuned)
    score, answers = answers_result(run, model)
    reference = write_reference(run, model, known=answers)
    artifacts = {"compressed": run.compressed, "reference": reference}
    if request.spec.output.has_adapter:
        artifacts["adapterReference"] = run.adapter_reference
    # Not earlier: every wider scheme starts from it again.
    shutil.rmtree(run.merged, ignore_errors=True)
    return run.outcome(
        [*results, *([score] if score else [])],
        artifacts=artifacts,
    )


def write_reference(
    run: CompressionRun,
    model: PreTrainedModel,
    *,
    name: str = "reference",
    known: Sequence[Answer] = (),
) -> Path:
    """Write what the model answers, which has given the answers `known` before; return the path."""
    run.say("reference answers")
    reference = generate_reference(
        model,
        run.tokenizer,
        reference_prompts(run.request, run.prepared, run.tokenizer),
        max_new_tokens=run.spec.verification.max_new_tokens,
        known=known,
        on_batch=lambda done, total: run.say("reference answers", done, total),
    )
    reference["biasPairs"] = served_pairs(run.trust.fairness)
    path = Path(run.request.output) / f"{name}.json"
    write_atomically(path, json.dumps(reference))
    return path


def merge(run: CompressionRun) -> dict[str, RowLosses]:
    """Write the merged model; return its losses in fp32, before anything is rounded."""
    run.say("merging")
    model = ready_for_scoring(load_tuned(run.request, dtype=torch.float32))
    losses = run.score(model, name="merged")
    refuse_changed(run.request, losses)
    run.say("merged: distributions")
    folder = Path(run.request.output)
    run.distributions = Distributions.of(model, run.prepared.validation, folder=folder)
    run.merged_trust = run.measure_trust(model, name="merged")
    if run.spec.output.has_adapter:
        # In fp32 it is the sum of base and adapter, which the server makes at each request.
        write_reference(run, model, name=run.adapter_reference.stem)
    # NB: this casts the model in place, so it is scored before.
    save_merged(model, run.merged, tokenizer_folder=run.prepared.model)
    run.merged_bytes = _bytes_below(run.merged)
    return losses


def compress_until_accepted(
    run: CompressionRun, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, list[EvaluationResult]]:
    """Try the scheme that was asked for, then wider ones as far as the gate allows.

    Raises:
        VerdictError: none of them keeps enough of `tuned`, the losses before compression.
    """
    scheme: SchemeName = run.spec.compression.quantize.scheme
    while True:
        model, losses = try_scheme(run, scheme, tuned=tuned)
        results = [
            result
            for suite in losses
            for result in loss_results(
                suite,
                losses[suite],
                base=tuned[suite],
                split="compressed",
                settings=run.spec.evaluation.bootstrap,
            )
        ]
        results = beside_tuned(run.request, results)
        results += run.findings.results if run.findings else []
        trial = run.trials[-1]
        if trial.is_accepted:
            return model, results
        wider = SCHEMES[scheme].wider
        if wider is None or run.spec.compression.gate.fallback == "fail":
            remedy = (
                "loosen the bound" if wider is None else f"choose {wider}, or set fallback: widen"
            )
            raise VerdictError(
                Reason.COMPRESSION_LOSS_EXCEEDED,
                f"{shortfall(trial)}; {remedy}.",
                findings=run.outcome(results, artifacts={}),
            )
        run.warnings.append(f"{shortfall(trial)}; {wider} was tried instead.")
        scheme = wider


def beside_tuned(
    request: StageRequest, results: Sequence[EvaluationResult]
) -> list[EvaluationResult]:
    """`results`, a pruned model's too, beside what `evaluate` has found of the tuned model."""
    evaluated = request.inputs.get(EVALUATE.name)
    if evaluated is None or distilled_folder(request) is None:
        return list(results)
    tuned = {
        (result.suite, result.metric): result.value
        for result in evaluated.evaluation
        if result.split == TUNED
    }
    return [
        result.model_copy(update={"base": tuned.get((result.suite, result.metric), result.base)})
        for result in results
    ]


def try_scheme(
    run: CompressionRun, scheme: SchemeName, *, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, dict[str, RowLosses]]:
    """Compress, load what was written, and score it; the trial is added to those of the run."""
    started = time.monotonic()
    kept: list[str] = []
    if scheme == "none":
        # Nothing comes after `none` that would need the merged folder once more.
        shutil.rmtree(run.compressed, ignore_errors=True)
        run.merged.rename(run.compressed)
    else:
        kept = layers_kept(run, scheme)
        run.say(f"quantizing: {scheme}")
        run.group_size = quantize_folder(
            run.merged,
            run.compressed,
            name=scheme,
            settings=run.spec.compression.quantize,
            calibration=calibration_rows(run, scheme),
            kept=[layer_pattern(name) for name in kept],
        )
    # From disk: packing and casting are part of what must keep the quality.
    model = load_for_scoring(run.compressed)
    losses = run.score(model, name=scheme)
    broken = judge_trust(run, model, scheme=scheme, tuned=tuned, compressed=losses)
    run.trials.append(
        SchemeTrial(
            scheme=scheme,
            recovery=recovery_of(tuned, losses),
            min_recovery=required_recovery(scheme, run.spec.compression),
            seconds=time.monotonic() - started,
            num_bytes=_bytes_below(run.compressed),
            kl=run.distributions.kl_to(model) if run.distributions else 0.0,
            max_kl=run.spec.compression.gate.max_kl,
            kept=tuple(kept),
            broken=broken,
        )
    )
    return model, losses


def layers_kept(run: CompressionRun, scheme: SchemeName) -> list[str]:
    """The decoder layers that stay bf16, the most sensitive first."""
    number = run.spec.compression.quantize.keep_layers
    if not number or run.distributions is None:
        return []
    model = load_for_scoring(run.merged)
    settings, group_size = run.spec.compression.quantize, None
    if scheme == "W4A16":
        group_size = group_size_for(settings, in_features=quantized_widths(model))
    found = sensitivities(
        model,
        run.distributions,
        scheme=scheme,
        group_size=group_size,
        on_layer=lambda done, total: run.say(f"{scheme}: sensitivity of layers", done, total),
    )
    return most_sensitive(found, number)


def judge_trust(
    run: CompressionRun,
    model: PreTrainedModel,
    *,
    scheme: SchemeName,
    tuned: Mapping[str, RowLosses],
    compressed: Mapping[str, RowLosses],
) -> tuple[str, ...]:
    """Measure bias and attacked prompts again; the gates about them that no longer hold."""
    if not run.trust.are_asked_for or run.merged_trust is None:
        return ()
    run.findings = run.trust.findings(
        run.measure_trust(model, name=scheme),
        base=run.merged_trust,
        split="compressed",
        settings=run.spec.evaluation.bootstrap,
        general_loss=(mean_loss(tuned[GENERAL]), mean_loss(compressed[GENERAL])),
    )
    # What a gate calls the base is the base model, as `evaluate` measured it.
    measured = run.request.inputs[EVALUATE.name].evaluation
    base = {(result.suite, result.metric): result.base for result in measured}
    results = [
        result.model_copy(update={"base": base.get((result.suite, result.metric))})
        for result in run.findings.results
    ]
    gates = run.trust.gates(run.spec.evaluation.gates or [])
    return tuple(verdict.statement for verdict in judge(gates, results) if not verdict.holds)


def calibration_rows(run: CompressionRun, scheme: SchemeName) -> list[list[int]]:
    """Training rows in seeded order: the same rows whatever the scheme."""
    # NB: never held-out rows, by which the scheme is judged afterwards.
    rows = run.prepared.train
    used = min(len(rows), run.spec.compression.quantize.calibration_rows)
    if scheme == "W4A16" and used < FEW_CALIBRATION_ROWS:
        run.warnings.append(
            f"W4A16 was calibrated on {used} training rows; fewer than {FEW_CALIBRATION_ROWS} "
            "make a poor fit."
        )
    order = np.random.default_rng(run.spec.dataset.seed).permutation(len(rows))
    return [rows.row(int(index))[0].tolist() for index in order[:used]]


def answers_result(
    run: CompressionRun, model: PreTrainedModel
) -> tuple[EvaluationResult | None, list[Answer]]:
    """The score of the model's answers beside that of the tuned model, and the answers.

    Without a metric nothing is asked. The score is told, not judged: the gate goes by loss.
    """
    run.say("answers")
    evaluation = run.spec.evaluation
    # The rows that `evaluate` asked: the choice is the same for the same spec.
    suite = choose_generation_suite(
        run.prepared.records("validation"), settings=evaluation.generation
    )
    if suite.metric is None:
        return None, []
    answers = generate_answers(
        model,
        run.tokenizer,
        suite.prompts,
        max_new_tokens=evaluation.generation.max_new_tokens,
        on_batch=lambda done, total: run.say("answers", done, total),
    )
    evaluated = run.request.inputs.get(EVALUATE.name)
    tuned = (
        result.value
        for result in (evaluated.evaluation if evaluated else ())
        if (result.suite, result.split, result.metric) == (HELD_OUT, "tuned", suite.metric)
    )
    score = generation_result(
        suite,
        [answer.text for answer in answers],
        split="compressed",
        base=next(tuned, None),
        settings=evaluation.bootstrap,
    )
    return score, answers


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in files_below(folder))

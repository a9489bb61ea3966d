"""Schemes that are tried, until one keeps enough, or all of a ladder for the smallest that does."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from tunesmith_api.finetunejob.compression import SchemeName
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import files_below
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.compress.quantize import quantize_folder
from tunesmith_trainer.compress.recovery_gate import (
    SchemeTrial,
    recovery_of,
    required_recovery,
    shortfall,
)
from tunesmith_trainer.compress.run import CompressionRun
from tunesmith_trainer.compress.schemes import SCHEMES, group_size_for, quantized_widths
from tunesmith_trainer.compress.sensitivity import layer_pattern, most_sensitive, sensitivities
from tunesmith_trainer.evaluate.gates import judge
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, load_for_scoring
from tunesmith_trainer.evaluate.suites import GENERAL, loss_results, mean_loss
from tunesmith_trainer.models import TUNED, distilled_folder

# GPTQ solves for each layer's weights from these rows' activations; the other schemes only look for
# the largest of them.
FEW_CALIBRATION_ROWS = 32


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
        results = results_of(run, losses, tuned=tuned)
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


def smallest_accepted(
    run: CompressionRun, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, list[EvaluationResult]]:
    """Try every scheme of the ladder, and keep the smallest model that the gate allows.

    Raises:
        VerdictError: none of them keeps enough of `tuned`, the losses before compression.
    """
    kept = Path(run.request.output) / ".smallest"
    results: list[EvaluationResult] = []
    findings = None
    for scheme in run.spec.compression.schemes:
        _, losses = try_scheme(run, scheme, tuned=tuned)
        trial = run.trials[-1]
        is_smaller = run.shipped is None or trial.num_bytes < run.shipped.num_bytes
        if trial.is_accepted and is_smaller:
            run.shipped, findings = trial, run.findings
            results = results_of(run, losses, tuned=tuned)
            shutil.rmtree(kept, ignore_errors=True)
            run.compressed.rename(kept)
    if run.shipped is None:
        return _when_none_is_accepted(run, tuned)
    run.findings = findings
    shutil.rmtree(run.compressed, ignore_errors=True)
    kept.rename(run.compressed)
    return load_for_scoring(run.compressed), results


def _when_none_is_accepted(
    run: CompressionRun, tuned: dict[str, RowLosses]
) -> tuple[PreTrainedModel, list[EvaluationResult]]:
    told = "; ".join(map(shortfall, run.trials))
    if "none" in run.spec.compression.schemes or run.spec.compression.gate.fallback == "fail":
        raise VerdictError(
            Reason.COMPRESSION_LOSS_EXCEEDED,
            f"{told}; loosen the bound, or add wider schemes to compression.ladder.schemes.",
            findings=run.outcome([], artifacts={}),
        )
    run.warnings.append(f"{told}; none was tried instead.")
    model, losses = try_scheme(run, "none", tuned=tuned)
    if not run.trials[-1].is_accepted:
        raise VerdictError(
            Reason.COMPRESSION_LOSS_EXCEEDED,
            f"{shortfall(run.trials[-1])}; loosen the bound.",
            findings=run.outcome([], artifacts={}),
        )
    return model, results_of(run, losses, tuned=tuned)


def results_of(
    run: CompressionRun, losses: Mapping[str, RowLosses], *, tuned: Mapping[str, RowLosses]
) -> list[EvaluationResult]:
    """The losses of the scheme that was tried last, and what else was found of it."""
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
    return [
        *beside_tuned(run.request, results),
        *(run.findings.results if run.findings else []),
    ]


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
        shutil.rmtree(run.compressed, ignore_errors=True)
        # Another scheme of a ladder may need the merged folder once more.
        shutil.copytree(run.merged, run.compressed, copy_function=os.link)
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
            losses={suite: mean_loss(losses[suite]) for suite in losses},
            min_recovery=required_recovery(scheme, run.spec.compression),
            seconds=time.monotonic() - started,
            num_bytes=bytes_below(run.compressed),
            kl=run.distributions.kl_to(model) if run.distributions else None,
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


def bytes_below(folder: Path) -> int:
    """What the files of a folder take."""
    return sum(path.stat().st_size for path in files_below(folder))

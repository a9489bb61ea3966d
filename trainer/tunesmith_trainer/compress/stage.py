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
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.compress.merge import refuse_changed, save_merged
from tunesmith_trainer.compress.reference_generations import generate_reference, reference_prompts
from tunesmith_trainer.compress.run import CompressionRun
from tunesmith_trainer.compress.schemes import refuse_unrunnable
from tunesmith_trainer.compress.trials import (
    bytes_below,
    compress_until_accepted,
    smallest_accepted,
)
from tunesmith_trainer.devices import has_accelerator
from tunesmith_trainer.evaluate.distributions import Distributions
from tunesmith_trainer.evaluate.generation import Answer, generate_answers
from tunesmith_trainer.evaluate.generation_metric import choose_generation_suite, generation_result
from tunesmith_trainer.evaluate.log_likelihood import RowLosses, ready_for_scoring
from tunesmith_trainer.evaluate.suites import HELD_OUT
from tunesmith_trainer.fairness.served_pairs import served_pairs
from tunesmith_trainer.models import load_tuned


def compress(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a model that vLLM loads in `compressed/`, and what it must say in `reference.json`.

    Raises:
        BadInputError: the scheme does not fit the model or this machine.
        VerdictError: no allowed scheme keeps enough, or merging changed the model.
    """
    refuse_unrunnable(request.spec.compression, has_gpu=has_accelerator())
    run = CompressionRun.of(request, reporter)
    tuned = merge(run)
    if request.spec.compression.ladder is None:
        model, results = compress_until_accepted(run, tuned)
    else:
        model, results = smallest_accepted(run, tuned)
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
    if run.spec.compression.measures_divergence:
        run.say("merged: distributions")
        folder = Path(run.request.output)
        run.distributions = Distributions.of(model, run.prepared.validation, folder=folder)
    run.merged_trust = run.measure_trust(model, name="merged")
    if run.spec.output.has_adapter:
        # In fp32 it is the sum of base and adapter, which the server makes at each request.
        write_reference(run, model, name=run.adapter_reference.stem)
    # NB: this casts the model in place, so it is scored before.
    save_merged(model, run.merged, tokenizer_folder=run.prepared.model)
    run.merged_bytes = bytes_below(run.merged)
    return losses


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

"""evaluate: base against tuned on held-out rows and on general text, then the gates.

Reads the held-out rows of `prepare` and the weights of `train`; writes `evaluation.json`. Gates
that could never be judged are refused before a weight is loaded. A model that breaks a gate ends
the job with `EvaluationGateFailed`, its numbers attached.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import TRAIN
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.prepared import load_prepared
from tunesmith_trainer.data.tokens import TokenRows
from tunesmith_trainer.evaluate.answers import Questions, answer_result, choose_questions
from tunesmith_trainer.evaluate.gates import Verdict, judge, refuse_unmeasured
from tunesmith_trainer.evaluate.general import general_text
from tunesmith_trainer.evaluate.generation import generate_answers, pad_id_of
from tunesmith_trainer.evaluate.pair import measure_both
from tunesmith_trainer.evaluate.scoring import RowLosses
from tunesmith_trainer.evaluate.suites import (
    GENERAL,
    HELD_OUT,
    few_rows_warnings,
    loss_results,
    score_suites,
)
from tunesmith_trainer.models import load_tokenizer
from tunesmith_trainer.versions import library_versions

LIBRARIES = ("torch", "transformers", "peft")


@dataclass(frozen=True, slots=True)
class _Task:
    """What is measured of either model."""

    base_folder: Path
    tokenizer: PreTrainedTokenizerBase
    suites: dict[str, TokenRows]
    questions: Questions
    max_new_tokens: int
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was measured of one model."""

    losses: dict[str, RowLosses]
    answers: list[str]


def evaluate(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Measure both models, write `evaluation.json`, and judge the gates.

    Raises:
        BadInputError: a gate names a number that is not measured, or the general text is unusable.
        VerdictError: a gate does not hold, or a loss is undefined.
    """
    task = _task(request)
    refuse_unmeasured(request.spec.evaluation.gates, measured=_measured_pairs(task))
    base, tuned = measure_both(
        task.base_folder,
        local_path(request.inputs[TRAIN.name].artifact("tuned")),
        measure=lambda name, model: _measure(model, task, name=name, reporter=reporter),
    )
    results = _results(request, task, base=base, tuned=tuned)
    verdicts = judge(request.spec.evaluation.gates, results)
    samples = _samples(task.questions, base.answers, tuned.answers)
    record = _record(task, results, verdicts=verdicts, samples=samples)
    path = Path(request.output) / "evaluation.json"
    write_atomically(path, json.dumps(record, indent=1, ensure_ascii=False))
    return _judged(_outcome(path, task, tuned, results), verdicts)


def _task(request: StageRequest) -> _Task:
    prepared = load_prepared(request)
    tokenizer = load_tokenizer(prepared.model)
    generation = request.spec.evaluation.generation
    general = general_text(request, tokenizer, context_length=request.spec.training.sequence_length)
    return _Task(
        base_folder=prepared.model,
        tokenizer=tokenizer,
        suites={HELD_OUT: prepared.validation, GENERAL: general.rows},
        questions=choose_questions(prepared.records("validation"), wanted=generation),
        max_new_tokens=generation.max_new_tokens,
        warnings=general.warnings,
    )


def _measured_pairs(task: _Task) -> list[tuple[str, str]]:
    pairs = [(suite, metric) for suite in task.suites for metric in ("loss", "perplexity")]
    return [*pairs, *((HELD_OUT, each) for each in [task.questions.metric] if each)]


def _measure(model: PreTrainedModel, task: _Task, *, name: str, reporter: Reporter) -> _Measured:
    def say(what: str, done: int, total: int) -> None:
        reporter.progress(f"{name} model: {what}", step=done, total_steps=total)

    losses = score_suites(model, task.suites, pad_id=pad_id_of(task.tokenizer), say=say)
    answers = generate_answers(
        model,
        task.tokenizer,
        task.questions.prompts,
        max_new_tokens=task.max_new_tokens,
        on_batch=lambda done, total: say("answers", done, total),
    )
    return _Measured(losses=losses, answers=answers)


def _results(
    request: StageRequest, task: _Task, *, base: _Measured, tuned: _Measured
) -> list[EvaluationResult]:
    settings = request.spec.evaluation.bootstrap
    results = [
        result
        for suite in task.suites
        for result in loss_results(
            suite, tuned.losses[suite], base=base.losses[suite], split="tuned", settings=settings
        )
    ]
    answered = answer_result(
        task.questions, base=base.answers, tuned=tuned.answers, settings=settings
    )
    return [*results, answered] if answered else results


def _record(
    task: _Task,
    results: Sequence[EvaluationResult],
    *,
    verdicts: Sequence[Verdict],
    samples: list[JsonValue],
) -> dict[str, JsonValue]:
    return {
        "metric": task.questions.metric,
        "results": [each.model_dump(mode="json", by_alias=True) for each in results],
        "verdicts": [{"statement": each.statement, "holds": each.holds} for each in verdicts],
        "samples": samples,
    }


def _samples(questions: Questions, base: Sequence[str], tuned: Sequence[str]) -> list[JsonValue]:
    rows = zip(questions.prompts, questions.references, base, tuned, strict=True)
    return [
        {"prompt": prompt, "reference": reference, "base": before, "tuned": after}
        for prompt, reference, before, after in rows
    ]


def _outcome(
    path: Path, task: _Task, tuned: _Measured, results: list[EvaluationResult]
) -> StageOutcome:
    held_out = results[0]
    return StageOutcome(
        message=f"held-out loss {held_out.base:.4f} (base) to {held_out.value:.4f} (tuned)",
        artifacts=[artifact_of("evaluation", path)],
        evaluation=results,
        facts={"dtype": "float32", "metric": task.questions.metric},
        versions=library_versions(*LIBRARIES),
        warnings=[*task.warnings, *few_rows_warnings({HELD_OUT: tuned.losses[HELD_OUT]})],
    )


def _judged(outcome: StageOutcome, verdicts: Sequence[Verdict]) -> StageOutcome:
    broken = [each.statement for each in verdicts if not each.holds]
    if broken:
        raise VerdictError(Reason.EVALUATION_GATE_FAILED, "; ".join(broken) + ".", findings=outcome)
    return outcome

"""The answers of the model that ships, scored as `evaluate` scores those of the tuned one.

They are told, not judged: the recovery gate goes by loss, which sees every token of every row,
where a score of a few answers jumps with a single word.
"""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import EVALUATE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_trainer.data.prepared import Prepared
from tunesmith_trainer.evaluate.answers import choose_questions, scored
from tunesmith_trainer.evaluate.generation import OnBatch, generate_answers
from tunesmith_trainer.evaluate.metrics import MetricName
from tunesmith_trainer.evaluate.suites import HELD_OUT


def answers_scored(
    request: StageRequest,
    prepared: Prepared,
    *,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    on_batch: OnBatch,
) -> EvaluationResult | None:
    """The score of the model's answers beside that of the tuned model; None without a metric."""
    evaluation = request.spec.evaluation
    questions = choose_questions(prepared.records("validation"), wanted=evaluation.generation)
    if questions.metric is None:
        return None
    answers = generate_answers(
        model,
        tokenizer,
        questions.prompts,
        max_new_tokens=evaluation.generation.max_new_tokens,
        on_batch=on_batch,
    )
    return scored(
        questions,
        answers,
        split="compressed",
        base=_tuned_score(request, questions.metric),
        settings=evaluation.bootstrap,
    )


def _tuned_score(request: StageRequest, metric: MetricName) -> float | None:
    evaluated = request.inputs.get(EVALUATE.name)
    wanted = (HELD_OUT, "tuned", metric)
    found = (
        each.value
        for each in (evaluated.evaluation if evaluated else ())
        if (each.suite, each.split, each.metric) == wanted
    )
    return next(found, None)

"""What models elsewhere say in an evaluation: a judge of the answers, and answers to compare with.

Both are asked about the held-out prompts that `generation` answers, and both are optional.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue
from transformers import PreTrainedTokenizerBase

from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.contracts import Reporter, StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.chat_client import ChatClient, ChatReply, open_client
from tunesmith_trainer.evaluate import managed_model, pairwise_judge
from tunesmith_trainer.evaluate.generation_metric import GenerationSuite
from tunesmith_trainer.evaluate.managed_model import (
    REFERENCE,
    TokenCount,
    ask_managed,
    managed_record,
    managed_result,
)
from tunesmith_trainer.evaluate.pairwise_judge import (
    JUDGE,
    Pair,
    judge_pairs,
    judge_record,
    judge_warnings,
    win_rate,
)


@dataclass(frozen=True, slots=True)
class Told:
    """What came back: numbers, records for people by `judge` and `reference`, and answers."""

    results: list[EvaluationResult] = field(default_factory=list)
    records: dict[str, JsonValue] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    managed_answers: list[str] = field(default_factory=list)


class OtherModels:
    """The endpoints that a job names; their secrets are read, and the managed model is asked first.

    Raises:
        StageError: a secret is missing, there are no prompts to ask about, or the managed model
            refuses: all before any weight is loaded.
    """

    def __init__(
        self, request: StageRequest, suite: GenerationSuite, *, reporter: Reporter
    ) -> None:
        self._settings = settings = request.spec.evaluation
        self._suite = suite
        self._reporter = reporter
        self._judge: ChatClient | None = None
        self._replies: list[ChatReply] = []
        if not (settings.judge or settings.reference):
            return
        if not suite.conversations:
            raise BadInputError(
                Reason.INVALID_SPEC,
                "spec.evaluation: judge and reference need held-out rows with a prompt and an "
                "answer, and the data has none; leave both out.",
            )
        if settings.judge:
            endpoint = settings.judge.endpoint
            self._judge = open_client(request, endpoint, field=pairwise_judge.FIELD)
        if settings.reference:
            self._replies = ask_managed(
                open_client(request, settings.reference.endpoint, field=managed_model.FIELD),
                suite,
                max_tokens=settings.generation.max_new_tokens,
                on_prompt=self._said("managed model: answers"),
            )

    def ask(
        self, tokenizer: PreTrainedTokenizerBase, *, base: Sequence[str], tuned: Sequence[str]
    ) -> Told:
        """Judge the answers of both models, and lay the managed model's beside them.

        Raises:
            StageError: the judge refuses, cannot be reached, or gives no verdicts.
        """
        told = Told()
        self._tell_judged(told, base=base, tuned=tuned)
        reference, suite = self._settings.reference, self._suite
        if reference:
            count = TokenCount.of(tokenizer, prompts=suite.prompts, answers=tuned)
            told.records[REFERENCE] = managed_record(self._replies, reference.endpoint, tuned=count)
            result = managed_result(suite, self._replies, settings=self._settings.bootstrap)
            told.results.extend([result] if result else [])
            told.managed_answers.extend(reply.text.strip() for reply in self._replies)
        return told

    def _tell_judged(self, told: Told, *, base: Sequence[str], tuned: Sequence[str]) -> None:
        settings, sampling = self._settings.judge, self._settings.bootstrap
        if settings is None or self._judge is None:
            return
        pairs = [
            Pair(conversation=turns, base=before, tuned=after)
            for turns, before, after in zip(self._suite.conversations, base, tuned, strict=True)
        ][: settings.max_samples]
        judged = judge_pairs(
            self._judge, pairs, settings=settings, on_pair=self._said("judge: pairs")
        )
        told.results.append(win_rate(judged, settings=sampling))
        told.records[JUDGE] = judge_record(judged, settings=settings, sampling=sampling)
        told.warnings.extend(judge_warnings(judged, sampling=sampling))

    def _said(self, what: str) -> Callable[[int, int], None]:
        def say(done: int, total: int) -> None:
            self._reporter.progress(what, step=done, total_steps=total)

        return say

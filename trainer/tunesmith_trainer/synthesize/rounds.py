"""Rounds of questions, answers and scores, until there are rows enough or a bound is reached.

What a round asks follows from the seed and from the replies before it, so that an attempt that goes
on asks the same again and is told from disk. Whatever is sure to be thrown away is found out before
more is paid for it: a question that is asked already gets no answer, a refusal no score.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np

from tunesmith_api.finetunejob.synthesis import Method, Synthesis
from tunesmith_engine.stages.contracts import Reporter
from tunesmith_engine.stages.digests import digest_json
from tunesmith_trainer.chat_client import ChatReply
from tunesmith_trainer.data.cleaning.made_rows import MadeRows
from tunesmith_trainer.data.rows import Message, Origin, Row
from tunesmith_trainer.prepare.tokenization import TokenizedRow
from tunesmith_trainer.synthesize.checks import Checks
from tunesmith_trainer.synthesize.examples import ShownExamples
from tunesmith_trainer.synthesize.instructions import (
    CRITIC_TOKENS,
    Direction,
    Example,
    answer_to,
    evolved_question,
    new_question,
    read_answer,
    read_question,
    read_score,
    score_of,
)
from tunesmith_trainer.synthesize.known_rows import KnownRows
from tunesmith_trainer.synthesize.language_models import Asked, Budget, LanguageModel

Subject = TypeVar("Subject")

_LEAST_ROUND: Final = 8
# Batches of questions in a round at most. Where a bound is reached, what a round has asked and not
# finished is lost.
_MOST_BATCHES: Final = 4
# Questions asked for each row that is wanted; and for nothing at all, before the writer counts as
# unable.
_PATIENCE: Final = 10
_HOPELESS: Final = 64


@dataclass(frozen=True, slots=True)
class Writers:
    """Who writes and who scores; no critic where none is asked."""

    generator: LanguageModel
    critic: LanguageModel | None


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is asked for one row: how, after which rows, in which words; and the question told.

    `number` is its place among all drafts, by which it is drawn.
    """

    number: int
    method: Method
    examples: tuple[Example, ...]
    asked: tuple[Message, ...]
    question: str = ""


class RowWriter:
    """The rows so far, and what was thrown away for which reason.

    `fitting` makes tokens of a row, or nothing of one that does not fit.
    """

    def __init__(
        self,
        settings: Synthesis,
        examples: ShownExamples,
        *,
        writers: Writers,
        checks: Checks,
        known: KnownRows,
        made: MadeRows,
        budget: Budget,
        fitting: Callable[[Row], TokenizedRow | None],
    ) -> None:
        self._settings = settings
        self._examples = examples
        self._writers = writers
        self._checks = checks
        self._known = known
        self.made = made
        self._budget = budget
        self._fitting = fitting
        self.num_asked = 0
        self._num_drafts = 0
        self._is_through = False
        self.rows: list[TokenizedRow] = []
        self.refused: Counter[str] = made.refused
        self.scores: Counter[int] = Counter()

    def write(self, wanted: int, *, reporter: Reporter) -> None:
        """Go on until there are so many rows, or it is of no use.

        Raises:
            StageError: who is asked refuses, or cannot be reached.
        """
        while len(self.rows) < wanted and self._is_of_use(wanted):
            missing = wanted - len(self.rows)
            most = _MOST_BATCHES * self._writers.generator.batch_size
            size = min(max(missing, _LEAST_ROUND), most)
            self._keep(self._scored(self._answered(self._questions(size))), most=wanted)
            reporter.progress("writing new rows", step=len(self.rows), total_steps=wanted)

    def _is_of_use(self, wanted: int) -> bool:
        if self._budget.exhausted is not None or self._is_through:
            return False
        if not self.rows and self.num_asked >= _HOPELESS:
            return False
        return self.num_asked < _PATIENCE * max(wanted, _LEAST_ROUND)

    def _questions(self, size: int) -> list[_Draft]:
        """Questions of rows, and new ones that nobody asks yet."""
        numbers = range(self._num_drafts, self._num_drafts + size)
        self._num_drafts += size
        drafted = [draft for number in numbers if (draft := self._draft(number)) is not None]
        # Where nothing but the questions of rows is asked, there is an end of them.
        self._is_through = not drafted
        own = [draft for draft in drafted if draft.question]
        self.num_asked += len(own)
        return own + self._new_questions([draft for draft in drafted if not draft.question])

    def _new_questions(self, drafts: Sequence[_Draft]) -> list[_Draft]:
        asked = [
            Asked(
                draft.asked,
                max_tokens=self._settings.max_new_tokens,
                temperature=self._settings.temperature,
                seed=self._settings.seed + draft.number,
            )
            for draft in drafts
        ]
        told = []
        for draft, reply in self._ask(self._writers.generator, asked, drafts):
            self.num_asked += 1
            question = read_question(reply.text)
            reason = self._checks.question(question, draft.examples)
            if not self._throws_away(reason):
                told.append(replace(draft, question=question))
        repeated = self._known.repeated([draft.question for draft in told])
        self.refused.update(repeated.values())
        return [draft for place, draft in enumerate(told) if place not in repeated]

    def _draft(self, number: int) -> _Draft | None:
        turn, place = divmod(number, len(self._settings.methods))
        method = self._settings.methods[place]
        if method == "answers":
            row = self._examples.own(turn)
            if row is None:
                return None
            return _Draft(number, method, (row,), (), question=row.question)
        random = np.random.default_rng([self._settings.seed, number])
        examples = self._examples.drawn(random)
        if method == "selfInstruct":
            return _Draft(number, method, examples, new_question(examples))
        direction: Direction = "deeper" if random.random() < 0.5 else "broader"  # noqa: PLR2004 - either way
        return _Draft(number, method, examples, evolved_question(examples[0], direction))

    def _answered(self, drafts: Sequence[_Draft]) -> list[Row]:
        most = self._settings.max_new_tokens
        prompts = [answer_to(draft.question, draft.examples) for draft in drafts]
        asked = [Asked(prompt, max_tokens=most) for prompt in prompts]
        rows = []
        for (draft, prompt), reply in self._ask(
            self._writers.generator, asked, list(zip(drafts, prompts, strict=True))
        ):
            row = self._row(draft, prompt, answer=read_answer(reply.text))
            reason = self._checks.answer(row, is_cut=reply.completion_tokens >= most)
            if not self._throws_away(reason):
                rows.append(row)
        held = self._known.contaminated(rows)
        self.refused.update(["heldOut"] * len(held))
        return self.made.fit([row for place, row in enumerate(rows) if place not in held])

    def _row(self, draft: _Draft, prompt: Sequence[Message], *, answer: str) -> Row:
        system = [turn for turn in prompt[:1] if turn.role == "system"]
        words = (turn.content for turn in (*draft.asked, *prompt))
        return Row(
            source="",
            messages=(*system, Message("user", draft.question), Message("assistant", answer)),
            origin=Origin(
                draft.method,
                examples=tuple(example.source for example in draft.examples),
                prompt_digest=digest_json([self._writers.generator.name, *words]),
            ),
        )

    def _scored(self, rows: Sequence[Row]) -> list[Row]:
        critic = self._writers.critic
        if critic is None:
            return list(rows)
        asked = [
            Asked(
                score_of(row.messages[-2].content, row.messages[-1].content),
                max_tokens=CRITIC_TOKENS,
            )
            for row in rows
        ]
        kept = []
        for row, reply in self._ask(critic, asked, rows):
            score = read_score(reply.text)
            if score is None:
                self.refused["unscored"] += 1
                continue
            self.scores[score] += 1
            if not self._throws_away(
                "lowScore" if score < self._settings.critic.min_score else None
            ):
                kept.append(row)
        return kept

    def _ask(
        self, model: LanguageModel, asked: Sequence[Asked], subjects: Sequence[Subject]
    ) -> Iterator[tuple[Subject, ChatReply]]:
        """Each subject with its reply; what no more was asked for is neither kept nor refused."""
        replies = self._budget.ask(model, asked)
        for subject, reply in zip(subjects, replies, strict=True):
            if reply is not None:
                yield subject, reply

    def _keep(self, rows: Sequence[Row], *, most: int) -> None:
        for row in rows:
            if len(self.rows) == most:
                return
            named = replace(row, source=f"synthesized:{len(self.rows) + 1}")
            fitted = self._fitting(named)
            if not self._throws_away(None if fitted else "unfit") and fitted is not None:
                self.rows.append(fitted)
                self._examples.wrote(row)
                self._known.add([row.messages[-2].content])

    def _throws_away(self, reason: str | None) -> bool:
        if reason is not None:
            self.refused[reason] += 1
        return reason is not None

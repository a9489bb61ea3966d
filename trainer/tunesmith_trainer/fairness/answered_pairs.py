"""What a model answers to prompts that differ in the group alone that they name.

Both prompts of a pair are answered greedily, so a difference is the model's and no draw's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.fairness import FairnessSuite
from tunesmith_trainer.data.cleaning.noise import is_refusal
from tunesmith_trainer.data.held_out_roles import row_of
from tunesmith_trainer.data.rows import Message, Row
from tunesmith_trainer.evaluate.generation import generate_texts
from tunesmith_trainer.evaluate.suites import Say
from tunesmith_trainer.fairness.held_out_rows import (
    HeldOut,
    SwappedRow,
    require_groups,
    swapped_rows,
)
from tunesmith_trainer.fairness.measures import Measure, RatioMeasure, with_parts
from tunesmith_trainer.fairness.sentences import left_out, spread
from tunesmith_trainer.fairness.terms import Terms


@dataclass(frozen=True, slots=True)
class AskedPairs:
    """Prompts in pairs, that of the first group first, and the number of each pair's other one."""

    terms: Terms
    groups: list[int]
    prompts: list[str]
    tokenizer: PreTrainedTokenizerBase
    max_new_tokens: int
    warnings: tuple[str, ...]

    @classmethod
    def of(cls, settings: FairnessSuite, held_out: HeldOut) -> "AskedPairs":
        """Raises BadInputError: no row names one group alone, or none fits."""
        terms = Terms.of(settings.groups)
        rows = [row_of(record) for record in held_out.records if record.prompt]
        warnings = require_groups(settings, rows, terms)
        chosen = spread(
            [swap for swap in swapped_rows(rows, terms) if _asks_apart(swap)], most=settings.limit
        )
        fit = held_out.fitting()
        pairs = [(swap.group, fit(swap.first), fit(swap.other)) for swap in chosen]
        fitting = [
            (group, [str(side.record.prompt) for side in (first, other)])
            for group, first, other in pairs
            if first and other
        ]
        return cls(
            terms,
            [group for group, _ in fitting],
            [prompt for _, sides in fitting for prompt in sides],
            held_out.tokenizer,
            held_out.max_new_tokens,
            (*warnings, *left_out(settings, chosen, fitting, longest=held_out.longest)),
        )

    @property
    def names(self) -> list[str]:
        """Of each pair's other group."""
        return [self.terms.names[group] for group in self.groups]

    def answers(self, model: PreTrainedModel, say: Say, *, suite: str) -> list[str]:
        """To every prompt, in their order."""
        return generate_texts(
            model,
            self.tokenizer,
            self.prompts,
            max_new_tokens=self.max_new_tokens,
            on_batch=partial(say, suite),
        )


@dataclass(frozen=True, slots=True)
class RefusalTest:
    """How often the model declines to answer, by the group that asks or is asked about."""

    settings: FairnessSuite
    asked: AskedPairs

    @classmethod
    def of(cls, settings: FairnessSuite, held_out: HeldOut) -> "RefusalTest":
        """Raises BadInputError: no row names one group alone, or none fits."""
        return cls(settings, AskedPairs.of(settings, held_out))

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.asked.warnings

    def measure(self, model: PreTrainedModel, say: Say) -> list[Measure]:
        answers = self.asked.answers(model, say, suite=self.settings.name)
        return refusal_measures(answers, self.asked.names)


def refusal_measures(answers: Sequence[str], names: Sequence[str]) -> list[Measure]:
    """Of answers to prompts that stand in pairs; `names` are those of each pair's other group."""
    refused = np.array([_refuses(answer) for answer in answers]).reshape(-1, 2).astype(float)
    gaps = with_parts("refusalGap", refused[:, 0] - refused[:, 1], names)
    return [gaps[0], RatioMeasure.of("emptyShare", empty_shares(answers)), *gaps[1:]]


def empty_shares(answers: Sequence[str]) -> NDArray[np.float64]:
    """The part of each pair's answers that say nothing."""
    empty = np.array([not answer.strip() for answer in answers]).reshape(-1, 2)
    shares: NDArray[np.float64] = empty.mean(axis=1)
    return shares


def _refuses(answer: str) -> bool:
    turns = (Message("user", "?"), Message("assistant", answer))
    return is_refusal(Row(source="", messages=turns))


def _asks_apart(swap: SwappedRow) -> bool:
    # Where only the answer names a group, both would be asked the same.
    return swap.first.messages[:-1] != swap.other.messages[:-1]

"""Texts sampled from the base model: whole ones, or a user's turn and the answer to it.

A chat model that is given nothing but the start of a user's turn writes what users have asked it in
its own training (Magpie, Xu et al. 2024, arXiv 2406.08464); one without a template goes on from its
begin token. Batches are seeded by their number, so a run that is killed repeats nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jinja2 import TemplateError
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.replay import SelfSynthesis
from tunesmith_trainer.data.begin_token import begin_ids
from tunesmith_trainer.data.chat_template import (
    ChatTemplate,
    RefusedConversationError,
    UnclearAnswerError,
)
from tunesmith_trainer.data.cleaning.variety import is_varied
from tunesmith_trainer.data.loss_mask import LossMasker, TokenRow
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.evaluate.generation import generate_batch, pad_id_of, stop_ids

BATCH_ROWS: Final = 32
# Stands for the user's words when the template is asked what comes before them.
_WORDS: Final = "words-of-the-user"


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws rows from one base model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: SelfSynthesis

    def batch(self, number: int) -> list[TokenRow]:
        """The usable rows of batch `number`; fewer than `BATCH_ROWS` where some are not."""
        self._seed(number)
        before = user_turn_ids(self.tokenizer)
        if before is None:
            return [row for ids in self._texts() if (row := _text_row(ids)) is not None]
        questions = [self._decoded(ids) for ids in self._sampled([before] * BATCH_ROWS)]
        asked = [question for question in questions if is_varied(question.split())]
        if not asked:
            return []
        prompts = [self._prompt(question) for question in asked]
        answers = [self._decoded(ids) for ids in self._sampled(prompts)]
        template, masker = ChatTemplate(self.tokenizer), LossMasker(self.tokenizer)
        rows = (
            _conversation_row(question, answer, template=template, masker=masker)
            for question, answer in zip(asked, answers, strict=True)
            if is_varied(answer.split())
        )
        return [row for row in rows if row is not None]

    def _seed(self, number: int) -> None:
        seed = np.random.SeedSequence([self.settings.seed, number])
        torch.manual_seed(int(seed.generate_state(1)[0]))

    def _texts(self) -> list[list[int]]:
        begin = begin_ids(self.tokenizer) or [pad_id_of(self.tokenizer)]
        return [[*begin, *ids] for ids in self._sampled([begin] * BATCH_ROWS)]

    def _prompt(self, question: str) -> list[int]:
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True
        )
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _decoded(self, ids: Sequence[int]) -> str:
        return self.tokenizer.decode(list(ids), skip_special_tokens=True).strip()

    def _sampled(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """A continuation of each prompt, without the token that ended it."""
        stops, pad = stop_ids(self.model, self.tokenizer), pad_id_of(self.tokenizer)
        sampled = GenerationConfig(
            do_sample=True,
            temperature=self.settings.temperature,
            top_k=0,
            top_p=1.0,
            repetition_penalty=1.0,
            max_new_tokens=self.settings.max_new_tokens,
            eos_token_id=stops or None,
            pad_token_id=pad,
        )
        rows = generate_batch(self.model, prompts, config=sampled)
        return [row[:-1] if row and row[-1] in stops else row for row in rows]


def user_turn_ids(tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """The tokens in front of a user's first words; None without a template that has such turns."""
    if not tokenizer.chat_template:
        return None
    try:
        text = str(
            tokenizer.apply_chat_template([{"role": "user", "content": _WORDS}], tokenize=False)
        )
    except (TemplateError, ValueError):
        return None
    before, words, _ = text.partition(_WORDS)
    if not (before and words):
        return None
    ids: list[int] = tokenizer(before, add_special_tokens=False)["input_ids"]
    return ids


def _conversation_row(
    question: str, answer: str, *, template: ChatTemplate, masker: LossMasker
) -> TokenRow | None:
    messages = [Message(role="user", content=question), Message("assistant", answer)]
    try:
        return masker.mask_answers(template.render(messages))
    except (RefusedConversationError, UnclearAnswerError):
        # What a model makes up may hold its own marks of turns.
        return None


def _text_row(ids: list[int]) -> TokenRow | None:
    if not is_varied(ids):
        return None
    return TokenRow(ids=tuple(ids), trained=(False,) + (True,) * (len(ids) - 1))

"""The model that is explained, and the games of its rows and of a text."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.explain import Explain
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message
from tunesmith_trainer.evaluate.generation import generate_texts, pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import ready_for_scoring
from tunesmith_trainer.explain.game import Game
from tunesmith_trainer.explain.units import RowText, stretches_of, units_of

# Tokens of a made-up answer: what it begins with says what it is about.
_ANSWER_TOKENS = 48
# Of a row of plain text, the last part is the answer to what stands before.
_ANSWER_PART = 0.25


class UnexplainableError(Exception):
    """A row or a text has nothing that could be explained; the message says why."""


@dataclass(frozen=True, slots=True)
class ExplainedModel:
    """A model in fp32 that is ready, with its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    settings: Explain

    @classmethod
    def of(
        cls, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: Explain
    ) -> "ExplainedModel":
        """On the accelerator if there is one; gradients go to embeddings alone."""
        ready = ready_for_scoring(model).requires_grad_(requires_grad=False)
        return cls(ready, tokenizer, settings)

    def game_of_row(
        self, record: RowRecord, ids: Sequence[int], trained: Sequence[bool]
    ) -> tuple[str, Game]:
        """The kind of unit, and the game of a held-out row.

        Raises:
            UnexplainableError: the row has no prompt, or is beyond the model's context.
        """
        start, end = _answer_in(trained, is_text=record.text is not None)
        prompt, answer = list(ids[:start]), list(ids[start:end])
        if self.settings.answer == "generated":
            answer = self._answer_to(prompt)
        messages = None if record.messages is None else record.messages[:-1]
        return self._game(prompt, answer, messages)

    def game_of_text(self, text: str, *, answer: str | None) -> tuple[str, Game]:
        """The same of a user's words; without an answer, of what the model says by itself.

        Raises:
            UnexplainableError: the text is empty or beyond the model's context, or the model says
                nothing.
        """
        if not text.strip():
            raise UnexplainableError("the text is empty; give some words to explain")
        messages = [Message("user", text)]
        rendered = text
        if self.tokenizer.chat_template:
            rendered = self.tokenizer.apply_chat_template(
                [turn.as_chat() for turn in messages], tokenize=False, add_generation_prompt=True
            )
        prompt = self._ids(rendered)
        self._require_context(len(prompt) + _ANSWER_TOKENS)
        said = self._answer_to(prompt) if answer is None else self._ended(answer)
        return self._game(prompt, said, messages if self.tokenizer.chat_template else None)

    def _game(
        self, prompt: list[int], answer: list[int], messages: Sequence[Message] | None
    ) -> tuple[str, Game]:
        self._require_context(len(prompt) + len(answer))
        if len(prompt) < 2 or not answer:  # noqa: PLR2004 - one stays, one is a unit
            raise UnexplainableError("there is no prompt before the answer, or no answer")
        row = RowText.of(self.tokenizer, [*prompt, *answer], num_prompt=len(prompt))
        stretches = stretches_of(row, self.tokenizer, messages)
        kind, units = units_of(
            row, stretches, kind=self.settings.units, most=self.settings.max_units
        )
        if not units:
            raise UnexplainableError("the prompt has no words of its own")
        return kind, Game(self.model, row, units, pad_id=pad_id_of(self.tokenizer))

    def _require_context(self, num_tokens: int) -> None:
        context = getattr(self.model.config, "max_position_embeddings", None)
        if context is not None and num_tokens > context:
            raise UnexplainableError(
                f"{num_tokens} tokens are beyond the model's context of {context}; shorten the text"
            )

    def _answer_to(self, prompt: list[int]) -> list[int]:
        rendered = self.tokenizer.decode(prompt, clean_up_tokenization_spaces=False)
        (said,) = generate_texts(
            self.model, self.tokenizer, [rendered], max_new_tokens=_ANSWER_TOKENS
        )
        if not said.strip():
            raise UnexplainableError("the model answers nothing, so that there is no likelihood")
        return self._ended(said)

    def _ended(self, answer: str) -> list[int]:
        end = self.tokenizer.eos_token_id
        return [*self._ids(answer), *([] if end is None else [end])]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids


def _answer_in(trained: Sequence[bool], *, is_text: bool) -> tuple[int, int]:
    """Where the last answer begins and ends."""
    end = len(trained) - list(trained)[::-1].index(True)
    if is_text:
        return max(2, round(end * (1 - _ANSWER_PART))), end
    start = end
    while start and trained[start - 1]:
        start -= 1
    return start, end

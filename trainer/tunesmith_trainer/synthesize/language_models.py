"""Who writes and who scores, and what they may cost: the bounds of `dataset.synthesis`.

Every reply is kept on disk, so that an attempt that goes on asks, and pays for, only what is
missing. What an earlier attempt was told counts against the bounds all the same.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import JsonValue

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.finetunejob.synthesis import Synthesis
from tunesmith_trainer.chat_client import ChatClient, ChatReply, cost_of
from tunesmith_trainer.data.rows import Message

# Requests under way at a time; an endpoint that has enough of them says so, and is waited for.
_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True)
class Asked:
    """One request; with a temperature, another `seed` asks for another reply."""

    messages: tuple[Message, ...]
    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None


class LanguageModel(Protocol):
    """Replies to conversations."""

    @property
    def name(self) -> str:
        """As prompt digests and the card have it."""
        ...

    @property
    def batch_size(self) -> int:
        """How many requests it is best given at a time."""
        ...

    def replies(self, asked: Sequence[Asked]) -> list[ChatReply]:
        """A reply to each.

        Raises:
            StageError: it refuses, or cannot be reached.
        """
        ...

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What these tokens cost; None without prices."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class EndpointModel:
    """A model behind an OpenAI-compatible API."""

    batch_size = _AT_ONCE

    def __init__(self, endpoint: Endpoint, *, client: ChatClient) -> None:
        self._endpoint = endpoint
        self._client = client
        self.name = endpoint.model

    def replies(self, asked: Sequence[Asked]) -> list[ChatReply]:
        """Ask several at once; what is asked twice is asked once."""
        distinct = list(dict.fromkeys(asked))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            told = dict(zip(distinct, pool.map(self._reply, distinct), strict=True))
        return [told[one] for one in asked]

    def cost(self, *, prompt_tokens: int, completion_tokens: int) -> float | None:
        """By the prices that the job gives."""
        return cost_of(
            self._endpoint, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens
        )

    def close(self) -> None:
        """There is nothing to let go of."""

    def _reply(self, asked: Asked) -> ChatReply:
        return self._client.reply(
            asked.messages,
            max_tokens=asked.max_tokens,
            temperature=asked.temperature,
            seed=asked.seed,
        )


class Budget:
    """What was spent so far, of what may be."""

    def __init__(self, settings: Synthesis, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._started = clock()
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        self.cost: float | None = None

    def ask(self, model: LanguageModel, asked: Sequence[Asked]) -> list[ChatReply | None]:
        """Replies; None behind the place where a bound was reached."""
        replies: list[ChatReply | None] = []
        for start in range(0, len(asked), model.batch_size):
            if self.exhausted is not None:
                break
            told = model.replies(asked[start : start + model.batch_size])
            self._pay(model, told)
            replies += told
        return replies + [None] * (len(asked) - len(replies))

    @property
    def exhausted(self) -> str | None:
        """The field whose bound is reached, with its value."""
        settings = self._settings
        spent: tuple[tuple[str, float | None, float | None], ...] = (
            ("maxTokens", settings.max_tokens, self.prompt_tokens + self.completion_tokens),
            ("maxCost", settings.max_cost, self.cost),
            ("maxMinutes", settings.max_minutes, (self._clock() - self._started) / 60),
        )
        for field, most, used in spent:
            if most is not None and used is not None and used >= most:
                return f"{field} ({most:g})"
        return None

    def as_json(self) -> dict[str, JsonValue]:
        """For the card: requests and tokens, those of earlier attempts included, and the cost."""
        return {
            "requests": self.requests,
            "promptTokens": self.prompt_tokens,
            "completionTokens": self.completion_tokens,
            "cost": None if self.cost is None else round(self.cost, 6),
        }

    def _pay(self, model: LanguageModel, replies: Sequence[ChatReply]) -> None:
        prompt = sum(reply.prompt_tokens for reply in replies)
        completion = sum(reply.completion_tokens for reply in replies)
        self.requests += len(replies)
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        cost = model.cost(prompt_tokens=prompt, completion_tokens=completion)
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost

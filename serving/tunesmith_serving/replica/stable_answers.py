"""Stable's answers, scored under this replica's model: by how much a candidate is worse, in nats.

For a part of its requests, or for the version's own prompts (`fixed_prompts.py`), a candidate asks
stable as a client would, but marked as none, greedily and for a few tokens, and has its own engine
give the log-probabilities of that answer: one prefill, no decoding. The difference of the mean
negative log-likelihoods per token is `Sample.quality_loss`. Both texts live as long as their
request, in memory.
"""

import asyncio
import json
import logging
import math
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_serving.replica.clusters import MARK_HEADER, mark
from tunesmith_serving.replica.in_process import Application, request

LOGGER = logging.getLogger(__name__)
# A few dozen tokens tell two models apart, and cost stable little.
MAX_ANSWER_TOKENS: Final = 64
# Of longer requests none is asked again.
MAX_BODY_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 20.0
_MOST_AT_ONCE: Final = 2
# Of the requests that would be asked again, how many are let go after failures in a row, at most:
# stable may be gone for good, after a promotion.
_MOST_SKIPPED: Final = 1024
_CHAT: Final = "/v1/chat/completions"
_COMPLETIONS: Final = "/v1/completions"
_DETOKENIZE: Final = "/detokenize"
_OK: Final = 200
# What would make of one question several answers, a long one, or one that is not text.
_LEFT_OUT: Final = frozenset(
    {"stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "echo"}
    | {"top_logprobs", "prompt_logprobs", "tools", "tool_choice", "response_format", "stop"}
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class StableAnswer:
    """Token ids of prompt and answer, and stable's log-probabilities (nats) of the answer's."""

    prompt_ids: Sequence[int]
    answer_ids: Sequence[int]
    logprobs: Sequence[float]


def question(path: str, body: Json) -> Json:
    """What stable is asked, for a request that a client sent to `path`."""
    asked = {name: value for name, value in body.items() if name not in _LEFT_OUT}
    return asked | {
        "temperature": 0,
        "max_tokens": MAX_ANSWER_TOKENS,
        "logprobs": True if path == _CHAT else 1,
        # NB: vLLM's own field. Text would have to be made into tokens again, perhaps into others.
        "return_token_ids": True,
    }


def read_answer(path: str, response: Json) -> StableAnswer | None:
    """The answer in stable's response to `question`; None if it has no token.

    Raises:
        LookupError: the response lacks what was asked for.
        TypeError: so it does.
    """
    choice = response["choices"][0]
    if path == _CHAT:
        prompt_ids = response["prompt_token_ids"]
        logprobs = [token["logprob"] for token in choice["logprobs"]["content"]]
    else:
        prompt_ids = choice["prompt_token_ids"]
        logprobs = choice["logprobs"]["token_logprobs"]
    answer_ids = choice["token_ids"][: len(logprobs)]
    if not answer_ids:
        return None
    return StableAnswer(prompt_ids, answer_ids, logprobs[: len(answer_ids)])


def scoring(answer: StableAnswer, *, model: str) -> Json:
    """What the candidate's own engine is asked."""
    return {
        "model": model,
        "prompt": [*answer.prompt_ids, *answer.answer_ids],
        "max_tokens": 1,
        "temperature": 0,
        "prompt_logprobs": 0,
    }


def quality_loss(answer: StableAnswer, response: Json) -> float | None:
    """Nats per token by which the candidate finds the answer less likely than stable does.

    None where a log-probability is no number.

    Raises:
        LookupError: the response lacks what `scoring` asked for.
        TypeError: so it does.
    """
    views = response["choices"][0]["prompt_logprobs"][len(answer.prompt_ids) :]
    own = [
        view[str(token)]["logprob"] for token, view in zip(answer.answer_ids, views, strict=True)
    ]
    loss = (math.fsum(answer.logprobs) - math.fsum(own)) / len(own)
    return loss if math.isfinite(loss) else None


class StableAnswers:
    """Asks stable at `url`, for the `fraction` of requests that this replica gets."""

    def __init__(
        self, app: Application, *, url: str, model: str, fraction: float, salt: bytes
    ) -> None:
        self._app = app
        self._url = url
        self._model = model
        self._fraction = fraction
        self._mark = {MARK_HEADER: mark(salt=salt)}
        self.num_compared = 0
        self._due = 0.0
        self._num_skipped = 0
        self._skip = 0
        self._num_asking = 0
        self.shared: Mapping[str, Any] = {}

    def is_due(self) -> bool:
        """Whether the request that has come now is one to ask stable, too."""
        self._due += self._fraction
        if self._due < 1:
            return False
        self._due -= 1
        if self._num_skipped < self._skip:
            self._num_skipped += 1
            return False
        # Never so many that they are the load that is judged.
        return self._num_asking < _MOST_AT_ONCE

    async def loss_of(
        self, path: str, body: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> float | None:
        """The quality loss for one request; None if it cannot be told. Raises nothing."""
        allowed = {
            name.decode(): value.decode("latin-1")
            for name, value in headers
            if name == b"authorization"
        }
        loss = await self._guarded(lambda: self._compared(path, json.loads(body), allowed))
        if loss is None:
            self._skip, self._num_skipped = min(2 * self._skip + 1, _MOST_SKIPPED), 0
            return None
        self._skip = 0
        self.num_compared += 1
        return loss

    async def loss_of_prompt(self, prompt_ids: Sequence[int]) -> float | None:
        """The quality loss for a prompt in token ids; None if it cannot be told. Raises nothing."""
        key = os.environ.get("VLLM_API_KEY")
        allowed = {"authorization": f"Bearer {key}"} if key else {}
        asked = {"model": self._model, "prompt": list(prompt_ids)}
        return await self._guarded(
            lambda: self._compared(_COMPLETIONS, asked, allowed, is_fixed=True)
        )

    async def _guarded(self, compare: Callable[[], Awaitable[float | None]]) -> float | None:
        self._num_asking += 1
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await compare()
        except Exception as error:  # noqa: BLE001 - whatever fails, the request was answered
            # The class alone: a message may quote a request.
            LOGGER.debug("stable's answer cannot be scored: %s", type(error).__name__)
            return None
        finally:
            self._num_asking -= 1

    async def _compared(
        self, path: str, body: Json, allowed: Mapping[str, str], *, is_fixed: bool = False
    ) -> float | None:
        answer = read_answer(path, await self._ask_stable(path, question(path, body), allowed))
        if answer is None:
            return None
        if is_fixed and not await self._means_the_same(answer, allowed):
            raise RuntimeError("the two versions have other tokens")
        scored = await self._ask_own(_COMPLETIONS, scoring(answer, model=self._model), allowed)
        return quality_loss(answer, scored)

    async def _means_the_same(self, answer: StableAnswer, allowed: Mapping[str, str]) -> bool:
        """Whether both versions take these ids for the same text.

        A client's own words become tokens in stable. Ids of one version's are words of another.
        """
        asked = {"model": self._model, "tokens": [*answer.prompt_ids, *answer.answer_ids]}
        theirs = await self._ask_stable(_DETOKENIZE, asked, allowed)
        ours = await self._ask_own(_DETOKENIZE, asked, allowed)
        return bool(theirs["prompt"] == ours["prompt"])

    async def _ask_own(self, path: str, asked: Json, allowed: Mapping[str, str]) -> Json:
        response = await request(
            self._app,
            path,
            method="POST",
            body=json.dumps(asked).encode(),
            headers={"host": "127.0.0.1", "content-type": "application/json", **allowed},
            shared=self.shared,
        )
        if response.status != _OK:
            raise RuntimeError(f"the engine answered with {response.status}")
        content: Json = json.loads(response.body)
        return content

    async def _ask_stable(self, path: str, asked: Json, headers: Mapping[str, str]) -> Json:
        import aiohttp

        async with (
            aiohttp.ClientSession(headers={**headers, **self._mark}) as session,
            session.post(f"{self._url}{path}", json=asked, raise_for_status=True) as response,
        ):
            answer: Json = await response.json()
            return answer

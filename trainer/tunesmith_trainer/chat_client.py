"""Asks an OpenAI-compatible endpoint, so that a stage may be killed between any two answers.

Every answer is kept on disk under a digest of what was asked: an attempt that goes on asks, and
pays for, only what is missing. Keys come from a secret and stand in no error and no file.
"""

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2
from pydantic import JsonValue

from tunesmith_api.endpoint import Endpoint
from tunesmith_api.json_io import read_json
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import API_KEY, read_secret
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.errors import BadInputError, TransientError
from tunesmith_engine.stages.reporter import write_atomically
from tunesmith_trainer.data.rows import Message, Tool
from tunesmith_trainer.data.tool_calls import RefusedRowError, read_calls

LOGGER = logging.getLogger(__name__)

_TIMEOUT_S: Final = 120.0
# Of a whole answer: one that trickles in byte by byte never runs into the other.
_DEADLINE_S: Final = 600.0
# A long answer has some hundred KB; one that does not end must not fill the memory.
_MAX_BYTES: Final = 16 << 20
_ATTEMPTS: Final = 5
_FIRST_PAUSE_S: Final = 1.0
# A provider may ask for longer pauses; an attempt of the stage should not sleep through an hour.
_LONGEST_PAUSE_S: Final = 60.0
_TOO_EARLY: Final = frozenset({408, 409, 429})
_SERVER_FAULT: Final = 500
_DENIED: Final = frozenset({401, 403})
# Of an error's body only its code is told: the text may quote the request, and parts of the key.
_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,60}")


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What the model said, and the tokens that are paid for; 0 where the server counts none."""

    text: str
    prompt_tokens: int
    completion_tokens: int


class KeptReplies:
    """Replies on disk, each under a digest of what was asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, asked: Mapping[str, JsonValue]) -> ChatReply | None:
        """The reply to this, if it was given before; one that is damaged was not."""
        try:
            text, prompt_tokens, completion_tokens = json.loads(
                self._path(asked).read_text(encoding="utf-8")
            )
        except (OSError, ValueError):
            return None
        return ChatReply(text, prompt_tokens, completion_tokens)

    def keep(self, asked: Mapping[str, JsonValue], reply: ChatReply) -> None:
        """Keep it for later attempts."""
        kept = [reply.text, reply.prompt_tokens, reply.completion_tokens]
        write_atomically(self._path(asked), json.dumps(kept))

    def _path(self, asked: Mapping[str, JsonValue]) -> Path:
        return self._folder / f"{digest_json(dict(asked)).removeprefix('sha256:')}.json"


class ChatClient:
    """One model behind an endpoint; `field` is the endpoint's path in the spec, for errors.

    Several threads may ask it at once.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        field: str,
        key: str | None,
        cache: Path,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoint = endpoint
        self._field = field
        self._kept = KeptReplies(cache)
        self._sleep = sleep
        self._clock = clock
        self._next_start = 0.0
        self._turn = threading.Lock()
        self._url = f"{endpoint.url.rstrip('/')}/chat/completions"
        # NB: no redirects. One to another host would carry the prompts, and could carry the key.
        self._http = httpx2.Client(
            timeout=_TIMEOUT_S,
            follow_redirects=False,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        tools: Sequence[Tool] = (),
        temperature: float = 0,
        seed: int | None = None,
    ) -> ChatReply:
        """The answer to a conversation; from disk where it was given before.

        One that calls tools is its words and the calls as JSON. With a temperature, another `seed`
        asks for another answer.

        Raises:
            BadInputError: the endpoint refuses, or is no OpenAI-compatible one.
            TransientError: it cannot be reached, or is overloaded, after several attempts.
        """
        body: dict[str, JsonValue] = {
            "model": self._endpoint.model,
            "messages": [_in_protocol(turn) for turn in messages],
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if seed is not None:
            body["seed"] = seed
        if tools:
            body["tools"] = [dict(tool) for tool in tools]
        asked = {"url": self._url, **body}
        known = self._kept.get(asked)
        if known is None:
            known = self._parsed(self._asked(body))
            self._kept.keep(asked, known)
        return known

    def _asked(self, body: dict[str, JsonValue]) -> httpx2.Response:
        for attempt in range(_ATTEMPTS):
            self._wait_for_turn()
            pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
            try:
                response = self._posted(body)
            except httpx2.TransportError as error:
                because = type(error).__name__
            else:
                if response.status_code not in _TOO_EARLY and response.status_code < _SERVER_FAULT:
                    return response
                because = f"status {response.status_code}"
                pause = _pause_asked(response) or pause
            LOGGER.info("%s: %s, attempt %d of %d", self._field, because, attempt + 1, _ATTEMPTS)
            if attempt + 1 < _ATTEMPTS:
                self._sleep(pause)
        raise TransientError(
            Reason.SOURCE_UNREACHABLE,
            f"spec.{self._field}: {self._url} gave no answer in {_ATTEMPTS} attempts ({because}); "
            "check the network and the address, or set maxRequestsPerMinute.",
        )

    def _posted(self, body: dict[str, JsonValue]) -> httpx2.Response:
        """The whole answer.

        Raises:
            TransportError: it cannot be had.
            TransientError: not within the deadline; it is not asked for again, for it is paid for.
            BadInputError: it has more bytes than any answer.
        """
        deadline = self._clock() + _DEADLINE_S
        parts, size = [], 0
        with self._http.stream("POST", self._url, json=body) as response:
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MAX_BYTES:
                    raise BadInputError(
                        Reason.ENDPOINT_UNUSABLE,
                        f"spec.{self._field}: {self._url} sends more than {_MAX_BYTES >> 20} MiB "
                        "for one answer; check url and model.",
                    )
                if self._clock() > deadline:
                    raise TransientError(
                        Reason.SOURCE_UNREACHABLE,
                        f"spec.{self._field}: {self._url} had not ended an answer after "
                        f"{_DEADLINE_S:g} s; take a faster endpoint, or ask for fewer tokens.",
                    )
        # NB: not its other headers. What was compressed on its way is read by now.
        headers = {"retry-after": response.headers.get("retry-after", "")}
        return httpx2.Response(response.status_code, headers=headers, content=b"".join(parts))

    def _wait_for_turn(self) -> None:
        if self._endpoint.max_requests_per_minute is None:
            return
        with self._turn:
            now = self._clock()
            start = max(now, self._next_start)
            self._next_start = start + 60 / self._endpoint.max_requests_per_minute
        if now < start:
            self._sleep(start - now)

    def _parsed(self, response: httpx2.Response) -> ChatReply:
        if not response.is_success:
            denied = response.status_code in _DENIED
            hint = f"name its key in secretRef ({API_KEY})" if denied else "check url and model"
            raise BadInputError(
                Reason.ENDPOINT_UNUSABLE,
                f"spec.{self._field}: {self._url} refuses with status {response.status_code}"
                f"{_code_of(response)}; {hint}.",
            )
        try:
            answer = read_json(response.content)
            usage = answer.get("usage") or {}
            return ChatReply(
                text=_text_of(answer["choices"][0]["message"]),
                prompt_tokens=int(usage.get("prompt_tokens") or 0),
                completion_tokens=int(usage.get("completion_tokens") or 0),
            )
        except (ValueError, TypeError, LookupError, AttributeError, RefusedRowError):
            raise BadInputError(
                Reason.ENDPOINT_UNUSABLE,
                f"spec.{self._field}: what {self._url} answers is no chat completion; give the "
                "base address of an OpenAI-compatible API, which often ends in /v1.",
            ) from None


def open_client(request: StageRequest, endpoint: Endpoint, *, field: str) -> ChatClient:
    """A client whose answers are kept in the stage's output, with the key of the secret.

    Raises:
        StageError: the secret is missing, or lacks the key.
    """
    try:
        secret = read_secret(endpoint.secret_ref, secrets=Path(request.secrets))
        key = secret.require(API_KEY) if endpoint.secret_ref else None
    except SourceError as error:
        raise as_stage_error(error) from error
    return ChatClient(endpoint, field=field, key=key, cache=Path(request.output) / "replies")


def cost_of(endpoint: Endpoint, *, prompt_tokens: float, completion_tokens: float) -> float | None:
    """What these tokens cost there; None without prices."""
    prices = endpoint.price_per_million_tokens
    if prices is None:
        return None
    return (prompt_tokens * prices.input + completion_tokens * prices.output) / 1e6


def _in_protocol(turn: Message) -> dict[str, JsonValue]:
    """The turn as the protocol has it, where arguments are JSON text, as templates do not."""
    said = turn.as_chat()
    for call in said.get("tool_calls", ()):
        arguments = call["function"]["arguments"]
        call["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return said


def _text_of(answer: Mapping[str, Any]) -> str:
    words = str(answer.get("content") or "")
    if not answer.get("tool_calls"):
        return words
    return Message("assistant", words, read_calls(answer["tool_calls"], field="tool_calls")).said


def _pause_asked(response: httpx2.Response) -> float | None:
    """Retry-After in seconds; its other form, a date, is passed over."""
    asked = response.headers.get("retry-after", "")
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else None


def _code_of(response: httpx2.Response) -> str:
    try:
        error = read_json(response.content)["error"]
        code = str(error.get("code") or error.get("type"))
    except (ValueError, TypeError, LookupError, AttributeError):
        return ""
    return f" ({code})" if _CODE.fullmatch(code) else ""

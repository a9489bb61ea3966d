"""A stand-in for vLLM's OpenAI server: its protocol, its abort and its drain, and no model.

`stand_in_engine.py` runs it as a process. `tests/model/test_replica_in_vllm.py` holds it to the
real server. Answers have as many tokens as a request's `max_tokens`. `POST /faults` with any of the
fields of `Faults` changes how it misbehaves while it runs.
"""

import asyncio
import contextlib
import json
import math
import os
import random
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from prometheus_client import generate_latest

from asgi_messages import (
    read_body,
    run_lifespan,
    send_json,
    send_piece,
    send_response,
    send_start,
    wait_for_disconnect,
)
from stand_in_answers import (
    DONE,
    TOKEN_LOGPROB,
    Answer,
    Json,
    answer_body,
    body_with_ids,
    error_body,
    error_event,
    models_body,
    opening_event,
    scored_body,
    token_event,
    usage_event,
)
from tunesmith_serving.replica.adapter_slots import LOAD, UNLOAD
from tunesmith_serving.replica.fingerprints import Fingerprint, read_fingerprints
from tunesmith_serving.replica.in_process import Receive, Scope, Send
from tunesmith_serving.verify.reference_generations import KnownChat

_PATHS: Final = {"/v1/chat/completions": True, "/v1/completions": False}
# How far from the known log-probabilities an engine with other weights answers, in nats.
_NONSENSE_NATS: Final = 3.0
_DEFAULT_TOKENS: Final = 16
# What vLLM says when its engine process is gone.
_ENGINE_DEAD: Final = "EngineCore encountered an issue. See stack trace (above) for the root cause."
# What it says to text that comes while it drains: its own executor is gone.
_NO_TOKENIZER: Final = "cannot schedule new futures after shutdown"
_EVENTS: Final = b"text/event-stream; charset=utf-8"
_SERVER_ERROR: Final = "InternalServerError"


@dataclass(frozen=True, slots=True)
class Faults:
    """How the engine misbehaves; times in seconds.

    `ttft` and `itl` are its speed, with `jitter` as the standard deviation of their logarithm.
    `errors` is the share of requests answered with 500, `aborts` of answers that are given up,
    `refusals` of those that refuse. `loss` is by how many nats a token it finds text less likely
    that is no fingerprint. `hang`: no token comes any more, with /health at 200.
    `nonsense`: other weights' answers and log-probabilities. `template`: another chat template.
    `crash`: the process ends in the middle of the next answer.
    """

    ttft: float = 0.002
    itl: float = 0.0005
    jitter: float = 0.0
    errors: float = 0.0
    aborts: float = 0.0
    refusals: float = 0.0
    loss: float = 0.0
    hang: bool = False
    nonsense: bool = False
    template: bool = False
    crash: bool = False


@dataclass(slots=True)
class Weights:
    """The model, or an adapter: how it misbehaves, and what it is known to answer."""

    faults: Faults
    known: Mapping[tuple[int, ...], Fingerprint]


# Whose the request under way is; tasks that are made for it know it, too.
_CHOSEN: ContextVar[Weights | None] = ContextVar("chosen", default=None)


def known_by_tokens(known: Sequence[Fingerprint]) -> dict[tuple[int, ...], Fingerprint]:
    """Fingerprints by all of their tokens."""
    return {(*probe.prompt_ids, *probe.answer_ids): probe for probe in known}


class EngineDeadError(Exception):
    """The engine was killed under the request."""


class StandIn:
    """The application, and what stands for vLLM's engine."""

    def __init__(
        self,
        *,
        model: str,
        faults: Faults,
        known: Sequence[Fingerprint] = (),
        chats: Sequence[KnownChat] = (),
        shutdown_timeout: float = 0.0,
        api_key: str | None = None,
        seed: int = 0,
    ) -> None:
        self.model = model
        self._base = Weights(faults, known_by_tokens(known))
        self._adapters: dict[str, Weights] = {}
        self._chats = {_key(chat.messages, chat.tools): chat.prompt_ids for chat in chats}
        self._shutdown_timeout = shutdown_timeout
        self._api_key = api_key
        self._random = random.Random(seed)
        self._waits: set[asyncio.Future[None]] = set()
        self._is_stopping = False
        self._idle = asyncio.Event()
        self._num_running = 0
        self._num_tokens = 0
        self._count = 0

    @property
    def adapters(self) -> list[str]:
        """The names of the adapters that are loaded."""
        return list(self._adapters)

    @property
    def faults(self) -> Faults:
        """Of what the request at hand is for; of the model otherwise."""
        faults = (_CHOSEN.get() or self._base).faults
        return replace(faults, hang=faults.hang or self._base.faults.hang)

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._base.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path.startswith("/v1") and not self._is_allowed(scope):
            await send_json(send, 401, {"error": "Unauthorized"})
        elif method == "POST" and path in _PATHS:
            await self._generate(receive, send, is_chat=_PATHS[path])
        elif method == "POST" and path == "/detokenize":
            tokens = json.loads(await read_body(receive))["tokens"]
            await send_json(send, 200, {"prompt": "".join(f"<{token}>" for token in tokens)})
        elif method == "POST" and path in {LOAD, UNLOAD}:
            await self._change_adapters(path, json.loads(await read_body(receive)), send)
        elif method == "POST" and path == "/faults":
            self.faults = replace(self.faults, **json.loads(await read_body(receive)))
            await send_json(send, 200, asdict(self.faults))
        elif path == "/v1/models":
            await send_json(send, 200, models_body(self.model, *self._adapters))
        elif path == "/health":
            await send_response(send, 200, b"", content_type=b"text/plain")
        elif path == "/metrics":
            await send_response(send, 200, self._metrics(), content_type=b"text/plain")
        else:
            await send_json(send, 404, {"detail": "Not Found"})

    async def stop(self) -> None:
        """What vLLM does on SIGTERM; the server closes its connections afterwards.

        With a timeout it ends what runs. Without one the engine is killed at once.
        """
        self._is_stopping = True
        if self._shutdown_timeout and self._num_running:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), self._shutdown_timeout)
        if not self._shutdown_timeout:
            for wait in self._waits:
                if not wait.done():
                    wait.set_exception(EngineDeadError)
        # NB: after the timeout vLLM kills its engine, too, and tells nobody: what is under way
        # hangs until the server itself is killed.
        self.faults = replace(self.faults, hang=True)

    def _is_allowed(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        return self._api_key is None or given == f"Bearer {self._api_key}".encode()

    async def _generate(self, receive: Receive, send: Send, *, is_chat: bool) -> None:
        try:
            request = json.loads(await read_body(receive))
        except ValueError as invalid:
            await send_json(
                send, 400, error_body(str(invalid), 400, kind="Bad Request", param="body.0")
            )
            return
        _CHOSEN.set(self._adapters.get(request.get("model", "")))
        if request.get("model", self.model) not in {self.model, *self._adapters}:
            message = f"The model `{request['model']}` does not exist."
            body = error_body(message, 404, kind="NotFoundError", param="model")
            await send_json(send, 404, body)
            return
        if self._is_stopping:
            await self._turn_away(send, request, is_chat=is_chat)
        elif self._random.random() < self.faults.errors:
            await send_json(send, 500, error_body(_ENGINE_DEAD, 500, kind=_SERVER_ERROR))
        else:
            await self._run(receive, send, request, is_chat=is_chat)

    async def _change_adapters(self, path: str, request: Json, send: Send) -> None:
        """Load or unload an adapter as vLLM does with VLLM_ALLOW_RUNTIME_LORA_UPDATING."""
        name = request["lora_name"]
        if path == UNLOAD:
            is_known = self._adapters.pop(name, None) is not None
            message = f"The lora adapter '{name}' cannot be found."
        else:
            folder = Path(request["lora_path"])
            is_known = (folder / "adapter_config.json").exists()
            message = f"Loading lora {name} failed: No adapter found for {folder}"
        if not is_known:
            await send_json(send, 404, error_body(message, 404, kind="NotFoundError"))
            return
        if path == LOAD:
            options = folder / "stand-in.json"
            faults = Faults(**json.loads(options.read_text()) if options.exists() else {})
            known = read_fingerprints(folder.parent / "fingerprints.json", max_model_length=None)
            self._adapters[name] = Weights(faults, known_by_tokens(known))
        await send_response(send, 200, b"Success", content_type=b"text/plain")

    async def _turn_away(self, send: Send, request: Json, *, is_chat: bool) -> None:
        """What vLLM answers while it drains.

        Text is refused, since what makes tokens of it has gone. Token ids come to the engine, which
        aborts them: an empty answer with status 200.
        """
        if is_chat or isinstance(request.get("prompt"), str):
            await send_json(send, 500, error_body(_NO_TOKENIZER, 500, kind=_SERVER_ERROR))
        elif request.get("stream"):
            await send_response(send, 200, DONE, content_type=_EVENTS)
        else:
            aborted = self._answer(request, is_chat=is_chat).aborted(0)
            await send_json(send, 200, answer_body(aborted))

    async def _run(self, receive: Receive, send: Send, request: Json, *, is_chat: bool) -> None:
        """Answer until the client goes."""
        answer = self._answer(request, is_chat=is_chat)
        write = self._stream if request.get("stream") else self._write
        writing = asyncio.ensure_future(write(send, request, answer))
        leaving = asyncio.ensure_future(wait_for_disconnect(receive))
        self._num_running += 1
        try:
            await asyncio.wait({writing, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                writing.result()
        finally:
            writing.cancel()
            leaving.cancel()
            self._num_running -= 1
            if self._is_stopping and not self._num_running:
                self._idle.set()

    def _answer(self, request: Json, *, is_chat: bool) -> Answer:
        limit = request.get("max_completion_tokens") or request.get("max_tokens")
        self._count += 1
        return Answer(
            id=f"{'chatcmpl' if is_chat else 'cmpl'}-{self._count:016x}",
            model=request.get("model", self.model),
            is_chat=is_chat,
            num_tokens=limit or _DEFAULT_TOKENS,
            finish_reason="length" if limit else "stop",
            is_refusal=self._random.random() < self.faults.refusals,
            is_nonsense=self.faults.nonsense,
            created=int(time.time()),
        )

    async def _write(self, send: Send, request: Json, answer: Answer) -> None:
        seconds = self._seconds(self.faults.ttft)
        seconds += self._seconds(self.faults.itl) * (answer.num_tokens - 1)
        try:
            await self._work(seconds)
        except EngineDeadError:
            await send_json(send, 500, error_body(_ENGINE_DEAD, 500, kind=_SERVER_ERROR))
            return
        self._crash_if_told()
        self._num_tokens += answer.num_tokens
        if self._gives_up():
            answer = answer.aborted(answer.num_tokens // 2)
        if "prompt_logprobs" in request:
            given = request["prompt"]
            prompts = given if isinstance(given[0], list) else [given]
            scores = [self._scores(prompt) for prompt in prompts]
            await send_json(send, 200, scored_body(answer, scores))
        elif request.get("return_token_ids") and answer.is_chat:
            tools = request.get("tools") or []
            ids = self._prompt_ids(request["messages"], tools=tools)
            await send_json(send, 200, {**answer_body(answer), "prompt_token_ids": ids})
        elif request.get("return_token_ids"):
            await send_json(send, 200, body_with_ids(answer, request["prompt"]))
        else:
            await send_json(send, 200, answer_body(answer))

    async def _stream(self, send: Send, request: Json, answer: Answer) -> None:
        await send_start(send, 200, content_type=_EVENTS)
        with_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        if self._gives_up():
            answer = answer.aborted(answer.num_tokens // 2)
        try:
            await self._work(self._seconds(self.faults.ttft))
            first = token_event(answer, 0, with_usage=with_usage)
            await send_piece(send, opening_event(answer) + first)
            for place in range(1, answer.num_tokens):
                self._crash_if_told()
                await self._work(self._seconds(self.faults.itl))
                await send_piece(send, token_event(answer, place, with_usage=with_usage))
                self._num_tokens += 1
        except EngineDeadError:
            # With status 200 and [DONE], as if the answer were whole.
            end = error_event(_ENGINE_DEAD, 500, kind=_SERVER_ERROR)
        else:
            end = usage_event(answer) if with_usage else b""
        await send_piece(send, end + DONE, more=False)

    async def _work(self, seconds: float) -> None:
        """Let the engine work for so long.

        Raises:
            EngineDeadError: it was killed meanwhile.
        """
        loop = asyncio.get_running_loop()
        wait: asyncio.Future[None] = loop.create_future()
        timer = None if self.faults.hang else loop.call_later(seconds, _finish, wait)
        self._waits.add(wait)
        try:
            await wait
        finally:
            self._waits.discard(wait)
            if timer is not None:
                timer.cancel()

    def _gives_up(self) -> bool:
        return self._random.random() < self.faults.aborts

    def _crash_if_told(self) -> None:
        if self.faults.crash:
            os._exit(1)

    def _seconds(self, median: float) -> float:
        jitter = self.faults.jitter
        return median * math.exp(self._random.gauss(0.0, jitter)) if jitter else median

    def _scores(self, prompt: Sequence[int]) -> list[Json | None]:
        """Log-probabilities of the prompt's tokens: the known ones, where this engine is sound."""
        probe = (_CHOSEN.get() or self._base).known.get(tuple(prompt))
        known = probe.logprobs if probe else []
        shift = _NONSENSE_NATS if self.faults.nonsense else 0.0
        likely = TOKEN_LOGPROB - self.faults.loss
        logprobs = [likely] * (len(prompt) - len(known)) + [value - shift for value in known]
        views: list[Json | None] = [
            {str(token): {"logprob": value, "rank": 1, "decoded_token": "x"}}
            for token, value in zip(prompt, logprobs, strict=True)
        ]
        # Nothing stands before the first.
        return [None, *views[1:]]

    def _prompt_ids(self, messages: Sequence[Json], *, tools: Sequence[Json] = ()) -> list[int]:
        """What the chat template makes of them: the known ids, where it is the version's."""
        ids = self._chats.get(_key(messages, tools), [1])
        return [*ids, 2] if self.faults.template else [*ids]

    def _metrics(self) -> bytes:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        lines = (
            f"vllm:num_requests_running{labels} {self._num_running}",
            f"vllm:num_requests_waiting{labels} 0",
            f"vllm:generation_tokens_total{labels} {self._num_tokens}",
            f"vllm:iteration_tokens_total_count{labels} {self._num_tokens}",
        )
        # As vLLM does, which shows whatever stands in the process's registry.
        return "\n".join((*lines, "")).encode() + generate_latest()


def _key(messages: Sequence[object], tools: Sequence[object]) -> str:
    return json.dumps([messages, tools], sort_keys=True)


def _finish(wait: asyncio.Future[None]) -> None:
    if not wait.done():
        wait.set_result(None)

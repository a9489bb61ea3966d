"""What is seen of one request while it passes: times and counts, and no text once it is over."""

from dataclasses import dataclass, field
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_engine.drift.refusals import OPENING_CHARACTERS, refuses
from tunesmith_serving.replica.event_stream import DONE, EventStream
from tunesmith_serving.tap.metrics import Outcome
from tunesmith_serving.tap.tapped_request import TappedRequest

_CLIENT_FAULT: Final = 400
_SERVER_FAULT: Final = 500
_TOO_MANY: Final = 429
# Nobody's request: whoever has no key must not move a judge's figures.
_NOT_ADMITTED: Final = (401, 403)
# A body that is no stream is read when it is whole; of longer ones only the time is known.
_MAX_BODY_BYTES: Final = 1 << 20
# Where a token's text stands, in a choice of a completion or in a chat's delta or message.
_TEXTS: Final = ("text", "content", "reasoning", "reasoning_content")
# `finish_reason`s of an answer that its engine gave up (vLLM's FinishReason).
_GIVEN_UP: Final = ("abort", "error")

Json = dict[str, Any]


@dataclass(slots=True)
class Measurement:
    """One request; `arrived` and every `now` are seconds of one monotonic clock.

    `cluster` is a digest of whose request it is. `ended` is when its response did, whichever way,
    and `is_admitted` is false where it was refused for want of a key. While it `is_compared` with
    stable's answer, its `quality_loss` is still to come. `tapped` is what else reads the answer.
    """

    arrived: float
    cluster: str | None = None
    ended: float | None = None
    is_admitted: bool = True
    status: int = 0
    is_compared: bool = False
    quality_loss: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    num_prompt_tokens: int | None = None
    tapped: TappedRequest | None = None
    _num_chunks: int = 0
    _num_tokens: int | None = None
    _choices: set[int] = field(default_factory=set)
    _finished: dict[int, str] = field(default_factory=dict)
    _opening: str = ""
    _refuses: bool | None = None
    _stream: EventStream | None = None
    _is_stream: bool = False
    _body: bytes = b""
    _error: bool = False
    _is_done: bool = False
    _is_blind: bool = False
    _incomplete: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return self.ended is not None and not self.is_compared

    @property
    def is_streamed(self) -> bool:
        """Whether its tokens came one by one: only then was the first one seen by itself."""
        return self._is_stream or self._stream is not None

    @property
    def is_blind(self) -> bool:
        """Whether the answer could not be read to its end."""
        return self._is_blind

    @property
    def tokens_of_answer(self) -> int | None:
        """Tokens of one answer, where the request asked for several."""
        tokens = self._output_tokens()
        return None if tokens is None else tokens // max(1, len(self._choices))

    @property
    def outcome(self) -> Outcome:
        """How it ended, for counters: what the client spoilt or gave up is nobody's failure.

        A client that went before the first token has got nothing, whoever lost patience.
        """
        if self._error:
            is_refused = _CLIENT_FAULT <= self.status < _SERVER_FAULT
            return "rejected" if is_refused and self.status != _TOO_MANY else "error"
        if self._incomplete == "disconnect" and self.first_token is not None:
            return "cancelled"
        return "complete" if self._incomplete is None else "incomplete"

    def start(self, status: int, *, is_stream: bool) -> None:
        """The response's head has come."""
        self.status = status
        self.is_admitted = status not in _NOT_ADMITTED
        self._error = status >= _CLIENT_FAULT
        self._stream = EventStream() if is_stream else None

    def read(self, piece: bytes, *, now: float) -> bool:
        """A piece of the body has come; whether it brought a token."""
        if self._error or self._is_blind:
            return False
        if self._stream is None:
            self._body += piece
            if len(self._body) > _MAX_BODY_BYTES:
                self.lose_sight()
            return False
        before = self._num_chunks
        for event in self._stream.feed(piece):
            self._read_event(event, now=now)
        self._is_blind |= self._stream.is_blind
        return self._num_chunks > before

    def end(self, *, now: float, is_whole: bool, is_disconnected: bool) -> None:
        """Nothing more comes.

        `is_whole`: the response's last piece was sent. `is_disconnected`: the client went before.
        """
        if self._stream is None and is_whole and not self._error and not self._is_blind:
            self._read_answer()
        if not self._error and not self._is_blind:
            self._incomplete = self._incomplete or self._broken_off(
                is_whole=is_whole, is_disconnected=is_disconnected
            )
        if self._opening:
            self._refuses = refuses(self._opening)
        self._is_stream = self._stream is not None
        # NB: the only text that was kept. Nobody's words outlive their request.
        self._opening, self._body, self._stream, self.tapped = "", b"", None, None
        self._finished.clear()
        self.ended = now

    def fail(self) -> None:
        """The application raised."""
        self._error = True

    def lose_sight(self) -> None:
        """It cannot be read on: say no more of it than its times."""
        self._is_blind, self._body = True, b""

    def fields(self, *, now: float) -> Json:
        """The fields of a `rollout.samples.Sample`, but `arm` and `timeSeconds`."""
        fields = {
            "error": self._error,
            "incomplete": self._incomplete,
            "ttftSeconds": self._ttft(now),
            "itlSeconds": self._itl(),
            "outputTokens": self._output_tokens(),
            "refusal": None if self._incomplete or self._error else self._refuses,
            "qualityLoss": self.quality_loss,
            "cluster": self.cluster,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def _read_event(self, event: bytes, *, now: float) -> None:
        if event == DONE:
            self._is_done = True
            return
        chunk = read_json(event)
        if "error" in chunk:
            # In place of an answer it is an error; after its beginning, an answer that broke off.
            self._error = self.first_token is None
            self._incomplete = None if self._error else "error"
            return
        if self._read_choices(chunk, part="delta"):
            self.first_token = now if self.first_token is None else self.first_token
            self.last_token = now
            self._num_chunks += 1

    def _read_answer(self) -> None:
        try:
            answer = read_json(self._body)
        except ValueError:
            self._incomplete = "badJson"
            return
        self._read_choices(answer, part="message")

    def _read_choices(self, chunk: Json, *, part: str) -> bool:
        """Read the choices and the usage; whether any choice brought a token."""
        usage, has_token = chunk.get("usage"), False
        if usage:
            self._num_tokens = usage["completion_tokens"]
            self.num_prompt_tokens = usage.get("prompt_tokens")
        for choice in chunk.get("choices", ()):
            content = choice.get(part) or choice
            if self.tapped is not None:
                self.tapped.read_choice(choice, content)
            texts = [content[name] for name in _TEXTS if content.get(name)]
            has_token |= bool(texts or content.get("tool_calls"))
            if len(self._opening) < OPENING_CHARACTERS:
                self._opening += "".join(texts)[:OPENING_CHARACTERS]
            self._choices.add(choice["index"])
            if reason := choice.get("finish_reason"):
                self._finished[choice["index"]] = reason
        return has_token

    def _broken_off(self, *, is_whole: bool, is_disconnected: bool) -> str | None:
        reasons = set(self._finished.values())
        for given_up in _GIVEN_UP:
            if given_up in reasons:
                return given_up
        is_finished = bool(self._choices) and self._choices == self._finished.keys()
        if is_disconnected and not (is_finished and is_whole):
            return "disconnect"
        if not is_finished:
            return "noFinishReason"
        if self._stream is not None and not self._is_done:
            return "noDone"
        return None if is_whole else "cut"

    def _ttft(self, now: float) -> float | None:
        if self.first_token is not None:
            return self.first_token - self.arrived
        if self._error:
            return None
        is_broken_off = self._incomplete not in {None, "disconnect"}
        if self.ended is not None and not self._is_stream and is_broken_off:
            return None
        # An answer in one piece: its client gets the first token with the last.
        # Given up, or under way still: it has waited so long at least.
        return (now if self.ended is None else self.ended) - self.arrived

    def _itl(self) -> float | None:
        if self.first_token is None or self.last_token is None:
            return self._seconds_per_token()
        # Choices are written side by side. A chunk may hold several tokens, which usage tells.
        num_tokens = (self._num_tokens or self._num_chunks) / max(1, len(self._choices))
        return (self.last_token - self.first_token) / (num_tokens - 1) if num_tokens > 1 else None

    def _seconds_per_token(self) -> float | None:
        """Of an answer in one piece, of which nothing was seen before its end."""
        num_tokens = self._output_tokens()
        if self.ended is None or self._is_stream or not num_tokens:
            return None
        return (self.ended - self.arrived) * max(1, len(self._choices)) / num_tokens

    def _output_tokens(self) -> int | None:
        if self.ended is None or self._error or self._incomplete or self._is_blind:
            return None
        return self._num_tokens if self._num_tokens is not None else self._num_chunks

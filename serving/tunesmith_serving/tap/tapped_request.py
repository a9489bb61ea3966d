"""What of one request is kept until it is over, to be measured then: the openings of its texts.

It lives as long as its request. Nothing here raises: whatever cannot be read is not observed, and
`problem` says why.
"""

from collections.abc import Mapping, Sequence
from math import exp, isfinite, log
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_engine.drift.signals import MAX_CHARACTERS, measure, prompt_of
from tunesmith_engine.drift.sketches import Bins
from tunesmith_serving.tap.metrics import DropReason

# As much of a request as may be read at once: it takes about a millisecond.
MAX_REQUEST_BYTES: Final = 1 << 18
# So many tokens tell how sure a model is of its answers; their alternatives cost time.
_MOST_LOGPROBS: Final = 64
_TWO: Final = 2

Json = Mapping[str, Any]


class TappedRequest:
    """One request: its body comes in pieces, its answer in choices."""

    __slots__ = (
        "_answer",
        "_body",
        "_entropies",
        "_finish_reason",
        "_logprobs",
        "_prompt",
        "_tool_arguments",
        "problem",
    )

    def __init__(self) -> None:
        self.problem: DropReason | None = None
        self._body: bytearray | None = bytearray()
        self._prompt: str | None = None
        self._answer = ""
        self._tool_arguments: str | None = None
        self._finish_reason: str | None = None
        self._logprobs: list[float] = []
        self._entropies: list[float] = []

    def read_body(self, piece: bytes, *, is_last: bool) -> None:
        """A piece of what the client sends."""
        if self._body is None:
            return
        if len(self._body) + len(piece) > MAX_REQUEST_BYTES:
            self.problem, self._body = "longRequest", None
            return
        self._body += piece
        if is_last:
            body, self._body = self._body, None
            try:
                self._prompt = _prompt_in(read_json(bytes(body)))
            except Exception:  # noqa: BLE001 - it is the client's request, whatever it holds
                self.problem = "unreadableRequest"

    def read_choice(self, choice: Json, content: Json) -> None:
        """A choice of the answer; `content` is its message, its delta, or the choice itself.

        Of several answers to one request the first is measured.
        """
        try:
            if choice.get("index", 0) == 0:
                self._read_choice(choice, content)
        except Exception:  # noqa: BLE001 - whoever answers something odd is measured by the rest
            self.problem = "unreadableAnswer"

    def bins(self, *, prompt_tokens: int | None, output_tokens: int | None, is_whole: bool) -> Bins:
        """The bins of the request; of one whose client went before the end, those of its prompt."""
        if not is_whole:
            return measure(self._prompt, None, prompt_tokens=prompt_tokens)
        return measure(
            self._prompt,
            self._answer or None,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            finish_reason=self._finish_reason,
            tool_arguments=self._tool_arguments,
            mean_logprob=_mean(self._logprobs),
            mean_entropy=_mean(self._entropies),
        )

    def _read_choice(self, choice: Json, content: Json) -> None:
        text = content.get("content") or content.get("text")
        if text and len(self._answer) < MAX_CHARACTERS:
            self._answer = (self._answer + text)[:MAX_CHARACTERS]
        if calls := content.get("tool_calls"):
            self._read_call(calls[0])
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        if logprobs := choice.get("logprobs"):
            self._read_logprobs(logprobs)

    def _read_call(self, call: Json) -> None:
        if call.get("index", 0) == 0:
            arguments = call.get("function", {}).get("arguments") or ""
            self._tool_arguments = ((self._tool_arguments or "") + arguments)[:MAX_CHARACTERS]

    def _read_logprobs(self, logprobs: Json) -> None:
        """Those of a chat, by token, or of a completion, in lists."""
        room = _MOST_LOGPROBS - len(self._logprobs)
        if "content" in logprobs:
            tokens = (logprobs["content"] or ())[:room]
            chosen: Sequence[float | None] = [token["logprob"] for token in tokens]
            others = [[other["logprob"] for other in token["top_logprobs"]] for token in tokens]
        else:
            chosen = (logprobs.get("token_logprobs") or ())[:room]
            tops = (logprobs.get("top_logprobs") or ())[:room]
            others = [list((top or {}).values()) for top in tops]
        self._logprobs += [float(value) for value in chosen if value is not None]
        self._entropies += [_entropy(values) for values in others if len(values) >= _TWO]


def _prompt_in(body: Any) -> str | None:
    """The prompt in a request for a chat or a completion; token ids are none."""
    if not isinstance(body, dict):
        return None
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(messages, list):
        return prompt_of(messages)
    first = prompt[0] if isinstance(prompt, list) and prompt else prompt
    return first[:MAX_CHARACTERS] if isinstance(first, str) else None


def _entropy(logprobs: Sequence[float]) -> float:
    """Nats of the most likely tokens, with all others as one more."""
    chances = [exp(min(0.0, value)) for value in logprobs]
    rest = max(0.0, 1 - sum(chances))
    return -sum(
        chance * value for chance, value in zip(chances, logprobs, strict=True) if chance
    ) - (rest * log(rest) if rest else 0.0)


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if isfinite(value)]
    return sum(finite) / len(finite) if finite else None

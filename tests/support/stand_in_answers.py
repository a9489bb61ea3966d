"""What vLLM's OpenAI server answers, as JSON: shapes of 0.32, of which a contract test knows."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

Json = dict[str, Any]
DONE: Final = b"data: [DONE]\n\n"
SYSTEM_FINGERPRINT: Final = "vllm-0.32.0-d8866b10"
_PROMPT_TOKENS: Final = 12
_WORDS: Final = ("turn ", "it ", "off ", "and ", "on ", "again, ", "then ", "wait ")
_NONSENSE: Final = ("qx ", "vv ", "0f ", "zz ")
_REFUSAL: Final = "I'm sorry, but I can't help with that. "
_ABORT: Final = "abort"
# Of every token, in nats.
TOKEN_LOGPROB: Final = -1.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `num_tokens` are those that it has, not those that were asked for."""

    id: str
    model: str
    is_chat: bool
    num_tokens: int
    finish_reason: str
    is_refusal: bool
    is_nonsense: bool
    created: int

    def aborted(self, num_tokens: int) -> "Answer":
        """The same, given up after so many tokens."""
        return replace(self, num_tokens=num_tokens, finish_reason=_ABORT)

    def token(self, place: int) -> str:
        """The text of one token."""
        words = _NONSENSE if self.is_nonsense else _WORDS
        return _REFUSAL if self.is_refusal and place == 0 else words[place % len(words)]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(map(self.token, range(self.num_tokens)))

    @property
    def usage(self) -> Json:
        """Counts of tokens."""
        return {
            "prompt_tokens": _PROMPT_TOKENS,
            "total_tokens": _PROMPT_TOKENS + self.num_tokens,
            "completion_tokens": self.num_tokens,
        }


def answer_body(answer: Answer) -> Json:
    """The body of an answer in one piece."""
    kind = "chat.completion" if answer.is_chat else "text_completion"
    return {
        **_head(answer, kind=kind),
        "choices": [_choice(answer)],
        "service_tier": None,
        "system_fingerprint": SYSTEM_FINGERPRINT,
        "usage": {**answer.usage, "prompt_tokens_details": None, "completion_tokens_details": None},
        **({"prompt_logprobs": None, "prompt_token_ids": None} if answer.is_chat else {}),
        **({"prompt_text": None} if answer.is_chat else {}),
        "kv_transfer_params": None,
        "ec_transfer_params": None,
        "metrics": None,
    }


def scored_body(answer: Answer, scores: Sequence[Sequence[Json | None]]) -> Json:
    """A completion of several prompts, with the log-probabilities of their tokens."""
    choices = [
        {**_choice(answer), "index": index, "prompt_logprobs": list(views)}
        for index, views in enumerate(scores)
    ]
    return {**answer_body(answer), "choices": choices}


def body_with_ids(answer: Answer, prompt: Sequence[int]) -> Json:
    """A completion of token ids, with those of its answer and their log-probabilities."""
    token_ids = list(range(answer.num_tokens))
    choice = _choice(answer) | {
        "prompt_token_ids": list(prompt),
        "token_ids": token_ids,
        "logprobs": {
            "text_offset": [0] * answer.num_tokens,
            "token_logprobs": [TOKEN_LOGPROB] * answer.num_tokens,
            "tokens": [answer.token(place) for place in token_ids],
            "top_logprobs": [{answer.token(place): TOKEN_LOGPROB} for place in token_ids],
        },
    }
    return {**answer_body(answer), "choices": [choice]}


def opening_event(answer: Answer) -> bytes:
    """What a stream begins with: a chat's role, of a completion nothing."""
    if not answer.is_chat:
        return b""
    choice = {
        "index": 0,
        "delta": {"role": "assistant", "content": ""},
        "logprobs": None,
        "finish_reason": None,
    }
    head = _head(answer, kind="chat.completion.chunk")
    return _event({**head, "choices": [choice], "prompt_token_ids": None, "prompt_text": None})


def token_event(answer: Answer, place: int, *, with_usage: bool) -> bytes:
    """The event of one token; the last one bears the reason why the answer ends."""
    is_last = place >= answer.num_tokens - 1
    # An answer that is given up ends with an event without a token.
    text = answer.token(place) if place < answer.num_tokens else ""
    reason = answer.finish_reason if is_last else None
    choice: Json = {"index": 0, "logprobs": None, "finish_reason": reason, "token_ids": None}
    if answer.is_chat:
        choice |= {"delta": {"content": text}, **({"stop_reason": None} if is_last else {})}
    else:
        choice |= {"text": text, "stop_reason": None, "prompt_token_ids": None}
    # The last event of the stream bears it; with usage that is another one.
    end = {"system_fingerprint": SYSTEM_FINGERPRINT} if is_last and not with_usage else {}
    return _event({**_head(answer, kind=_kind(answer)), "choices": [choice], **end})


def usage_event(answer: Answer) -> bytes:
    """What `stream_options.include_usage` adds."""
    head = _head(answer, kind=_kind(answer))
    fingerprint = {"system_fingerprint": SYSTEM_FINGERPRINT}
    return _event({**head, "choices": [], "usage": answer.usage, **fingerprint})


def error_body(message: str, code: int, *, kind: str, param: str | None = None) -> Json:
    """An error, as a response and as an event of a stream."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def error_event(message: str, code: int, *, kind: str) -> bytes:
    """An error in the middle of a stream, whose status is 200 by then."""
    return _event(error_body(message, code, kind=kind))


def models_body(model: str) -> Json:
    """The list of models."""
    entry: Json = {"id": model, "object": "model", "created": 0, "owned_by": "vllm", "root": model}
    permission = {
        "id": "modelperm-0",
        "object": "model_permission",
        "created": 0,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    entry |= {"parent": None, "max_model_len": 2048, "permission": [permission]}
    return {"object": "list", "data": [entry]}


def _kind(answer: Answer) -> str:
    return "chat.completion.chunk" if answer.is_chat else "text_completion"


def _head(answer: Answer, *, kind: str) -> Json:
    return {"id": answer.id, "object": kind, "created": answer.created, "model": answer.model}


def _choice(answer: Answer) -> Json:
    end = {
        "logprobs": None,
        "finish_reason": answer.finish_reason,
        "stop_reason": None,
        "token_ids": None,
        "routed_experts": None,
    }
    if not answer.is_chat:
        ids = {"prompt_logprobs": None, "prompt_token_ids": None}
        return {"index": 0, "text": answer.text, **end, **ids}
    message = {
        "role": "assistant",
        "content": answer.text,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "reasoning": None,
    }
    return {"index": 0, "message": message, **end}


def _event(content: Json) -> bytes:
    return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"

"""What one request looks like in numbers: `measure` maps it to one bin of each signal.

The trainer measures the rows of a job with it and a replica the requests that it answers, so that
the two can be compared. Whatever the text, only its first characters are looked at.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import isfinite, log2
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_engine.drift.refusals import refuses
from tunesmith_engine.drift.scripts import SCRIPTS, script_of
from tunesmith_engine.drift.words import NUM_BUCKETS, buckets_of, repeated_share, words_of

# Of a prompt or an answer no more is read. It is also where an answer counts as cut.
MAX_CHARACTERS: Final = 4096
# A topic is known by its first words; a pasted document behind them would cost more than it tells.
_TOPIC_CHARACTERS: Final = 1024

# Texts, pictures and files of one turn.
_MOST_PARTS: Final = 32

_NUM_TOKEN_BINS: Final = 32
_FINISH_REASONS: Final = ("stop", "length", "tool_calls", "content_filter", "abort", "other")
_FORMATS: Final = ("text", "json", "brokenJson", "cutJson", "toolCall", "brokenToolCall")
_REPEATED: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75)
_NATS_OF_BIN: Final = 0.25
_NUM_NATS_BINS: Final = 16


# The number of a bin; of a signal with `is_multiple`, of several.
Bin = int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signal:
    """One thing that is observed of a request, as one of `num_bins` bins, or not at all.

    `name` stands in metrics and in statuses. `in_reference` says whether rows of data have it, too.
    Bins that are `ordered` go from little to much. A request is in several bins of a signal that is
    `multiple`.
    """

    name: str
    num_bins: int
    about: str
    in_reference: bool = True
    is_ordered: bool = False
    is_multiple: bool = False


SIGNALS: Final = (
    Signal(
        "promptTokens",
        _NUM_TOKEN_BINS,
        "tokens of the prompt, two bins for each doubling",
        is_ordered=True,
    ),
    Signal(
        "outputTokens",
        _NUM_TOKEN_BINS,
        "tokens of the answer, two bins for each doubling",
        is_ordered=True,
    ),
    # Whoever wrote the rows has finished every answer.
    Signal("finishReason", len(_FINISH_REASONS), "why the answer ended", in_reference=False),
    Signal("refusal", 2, "whether the answer opens with a refusal"),
    Signal(
        "repetition",
        len(_REPEATED) + 1,
        "share of groups of four words that were said before",
        is_ordered=True,
    ),
    Signal("answerFormat", len(_FORMATS), "text, JSON or a call of a tool; valid or not"),
    Signal("promptScript", len(SCRIPTS), "the script of most letters of the prompt"),
    Signal("answerScript", len(SCRIPTS), "the script of most letters of the answer"),
    Signal("promptWords", NUM_BUCKETS, "hashes of the prompt's first words", is_multiple=True),
    Signal("answerWords", NUM_BUCKETS, "hashes of the answer's first words", is_multiple=True),
    Signal(
        "logprob",
        _NUM_NATS_BINS,
        "mean log-probability of the answer's tokens, in steps of 0.25 nats below 0",
        in_reference=False,
        is_ordered=True,
    ),
    Signal(
        "entropy",
        _NUM_NATS_BINS,
        "mean entropy of the answer's tokens, in steps of 0.25 nats",
        in_reference=False,
        is_ordered=True,
    ),
)


def measure(
    prompt: str | None,
    answer: str | None,
    *,
    prompt_tokens: int | None = None,
    output_tokens: int | None = None,
    finish_reason: str | None = None,
    tool_arguments: str | None = None,
    mean_logprob: float | None = None,
    mean_entropy: float | None = None,
) -> dict[str, Bin]:
    """The bin of every signal that was observed, or its bins.

    Args:
        prompt: what was asked, as `prompt_of` finds it.
        answer: what the model said, or its first `MAX_CHARACTERS`.
        prompt_tokens: tokens of the whole prompt, with its template.
        output_tokens: tokens of the answer, with the one that ends it.
        finish_reason: as OpenAI's protocol has it.
        tool_arguments: arguments of the first tool that the answer calls, a JSON text.
        mean_logprob: natural logarithm, mean over the answer's tokens.
        mean_entropy: nats, mean over the answer's tokens.
    """
    bins: dict[str, Bin | None] = {
        "promptTokens": _tokens_bin(prompt_tokens),
        "outputTokens": _tokens_bin(output_tokens),
        "finishReason": _finish_bin(finish_reason),
        "logprob": _nats_bin(None if mean_logprob is None else -mean_logprob),
        "entropy": _nats_bin(mean_entropy),
        "answerFormat": _format_bin(answer, tool_arguments),
    }
    if prompt:
        bins |= _of_prompt(prompt[:MAX_CHARACTERS])
    if answer:
        bins |= _of_answer(answer[:MAX_CHARACTERS])
    return {name: number for name, number in bins.items() if number is not None}


def prompt_of(messages: Iterable[Any]) -> str | None:
    """The prompt in the messages of a chat: the last turn that the model did not say itself.

    Earlier turns were measured with their own requests, and a system's turn is the same in each. It
    is taken where there is no other. A turn's content is a text or a list of parts, as in OpenAI's
    protocol; whatever is something else is passed over.
    """
    system = None
    for message in reversed([message for message in messages if isinstance(message, Mapping)]):
        role = message.get("role")
        if not isinstance(role, str) or role == "assistant":
            continue
        text = _text_of(message.get("content"))
        if text and role not in {"system", "developer"}:
            return text
        system = system or text
    return system


def _text_of(content: Any) -> str | None:
    if isinstance(content, str):
        return content[:MAX_CHARACTERS]
    if not isinstance(content, list):
        return None
    parts = [part.get("text") for part in content[:_MOST_PARTS] if isinstance(part, Mapping)]
    texts = [part[:MAX_CHARACTERS] for part in parts if isinstance(part, str)]
    return " ".join(texts)[:MAX_CHARACTERS] or None


def _of_prompt(prompt: str) -> dict[str, Bin | None]:
    words = words_of(prompt[:_TOPIC_CHARACTERS])
    return {"promptScript": script_of(prompt), "promptWords": buckets_of(words) or None}


def _of_answer(answer: str) -> dict[str, Bin | None]:
    words = words_of(answer)
    repeated = repeated_share(words)
    return {
        "refusal": int(refuses(answer)),
        "repetition": None if repeated is None else bisect_right(_REPEATED, repeated),
        "answerScript": script_of(answer),
        "answerWords": buckets_of(words) or None,
    }


def _tokens_bin(number: int | None) -> int | None:
    if number is None or number < 0:
        return None
    return 0 if number == 0 else min(_NUM_TOKEN_BINS - 1, 1 + int(2 * log2(number)))


def _finish_bin(reason: str | None) -> int | None:
    if reason is None:
        return None
    return _FINISH_REASONS.index(reason if reason in _FINISH_REASONS else "other")


def _nats_bin(nats: float | None) -> int | None:
    if nats is None or not isfinite(nats):
        return None
    return int(min(_NUM_NATS_BINS - 1, max(0.0, nats / _NATS_OF_BIN)))


def _format_bin(answer: str | None, tool_arguments: str | None) -> int | None:
    if tool_arguments is not None:
        is_cut = len(tool_arguments) >= MAX_CHARACTERS
        is_valid = is_cut or _is_json(tool_arguments or "{}")
        return _FORMATS.index("toolCall" if is_valid else "brokenToolCall")
    if not answer:
        return None
    text = _unfenced(answer[:MAX_CHARACTERS].strip())
    if not text.startswith(("{", "[")):
        return _FORMATS.index("text")
    if len(answer) >= MAX_CHARACTERS:
        return _FORMATS.index("cutJson")
    return _FORMATS.index("json" if _is_json(text) else "brokenJson")


def _unfenced(text: str) -> str:
    """What stands in a Markdown fence, where the text is nothing else."""
    opening, _, inside = text.partition("\n")
    if opening in {"```", "```json"} and inside.endswith("```"):
        return inside.removesuffix("```").strip()
    return text


def _is_json(text: str) -> bool:
    try:
        read_json(text)
    except ValueError:
        return False
    return True

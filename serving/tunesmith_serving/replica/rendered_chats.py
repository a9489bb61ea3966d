"""Known conversations against what the engine makes of them: the chat template's fingerprint.

Fingerprints of weights are token ids, which a wrong template does not touch. Here the engine is
handed messages, as clients do it, and tells the token ids that its template and tokenizer made.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tunesmith_serving.verify.reference_generations import KnownChat

CHAT = "/v1/chat/completions"


class KnownChats(BaseModel):
    """`fingerprints.json`, as far as it is needed here; versions of earlier releases have none."""

    model_config = ConfigDict(frozen=True)

    chats: list[KnownChat] = Field(default_factory=list)


def read_chats(path: Path, *, max_model_length: int | None) -> list[KnownChat]:
    """Those conversations of a version that fit into `max_model_length` tokens, maybe none.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is something else.
    """
    chats = KnownChats.model_validate_json(path.read_text(encoding="utf-8")).chats
    # One token more is generated.
    return [
        chat
        for chat in chats
        if max_model_length is None or len(chat.prompt_ids) < max_model_length
    ]


def question(chat: KnownChat, *, model: str) -> dict[str, Any]:
    """The body of a request to `CHAT` whose answer tells the token ids of the prompt."""
    return {
        "model": model,
        "messages": chat.messages,
        # NB: none, for a server without a parser of calls refuses any other choice, and shows the
        # tools to the template all the same.
        **({"tools": chat.tools, "tool_choice": "none"} if chat.tools else {}),
        "max_tokens": 1,
        "temperature": 0,
        # NB: vLLM's own field.
        "return_token_ids": True,
    }


def is_rendered(chat: KnownChat, answer: dict[str, Any]) -> bool:
    """Whether the engine made the token ids of `chat` that were published.

    Raises:
        LookupError: the answer lacks what was asked for.
        TypeError: so it does.
    """
    return list(answer["prompt_token_ids"]) == chat.prompt_ids

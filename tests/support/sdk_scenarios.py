"""What a client sees through the OpenAI SDK: `python sdk_scenarios.py URL KEY MODEL` prints it.

Runs with whatever SDK its Python has. What differs from call to call by nature is left out: ids,
times, and the version of the SDK.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import openai

ASKED: dict[str, Any] = {
    "messages": [{"role": "user", "content": "How do I reset my password?"}],
    "temperature": 0,
    "max_tokens": 8,
    "seed": 1,
}
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "open_ticket",
        "parameters": {
            "type": "object",
            "properties": {"urgent": {"type": "boolean"}},
            "required": ["urgent"],
        },
    },
}
SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "answer", "schema": TOOL["function"]["parameters"]},
}
_LEFT_OUT = {"id", "created", "_request_id", "request_id"}


def main() -> None:
    """Print the outcome of every scenario."""
    url, key, model = sys.argv[1:]
    client = openai.OpenAI(base_url=url, api_key=key, max_retries=0, timeout=120)
    strangers = openai.OpenAI(base_url=url, api_key="wrong", max_retries=0, timeout=120)
    # Any: bodies are made up here, past the types of the SDK.
    chat: Any = client.chat.completions
    scenarios: dict[str, Callable[[], Any]] = {
        "chat": lambda: chat.create(model=model, **ASKED),
        "stream": lambda: _joined(
            chat.create(model=model, stream=True, stream_options={"include_usage": True}, **ASKED)
        ),
        "logprobs": lambda: chat.create(model=model, logprobs=True, top_logprobs=2, **ASKED),
        "schema": lambda: chat.create(
            model=model, response_format=SCHEMA, **{**ASKED, "max_tokens": 64}
        ),
        "tools": lambda: chat.create(
            model=model,
            tools=[TOOL],
            tool_choice={"type": "function", "function": {"name": "open_ticket"}},
            **{**ASKED, "max_tokens": 64},
        ),
        "completion": lambda: client.completions.create(
            model=model, prompt="Once", max_tokens=4, temperature=0
        ),
        "models": lambda: list(client.models.list()),
        "unknownModel": lambda: chat.create(model="nobody", **ASKED),
        "badRequest": lambda: chat.create(model=model, **{**ASKED, "temperature": -1}),
        "wrongKey": lambda: strangers.chat.completions.create(model=model, **ASKED),
    }
    outcomes = {name: _outcome(call) for name, call in scenarios.items()}
    json.dump({"openai": openai.__version__, "outcomes": outcomes}, sys.stdout)


def _joined(chunks: Any) -> dict[str, Any]:
    """A stream as one: how many tokens come in a chunk is a matter of moments."""
    plain = [_plain(chunk) for chunk in chunks]
    choices = [choice for chunk in plain for choice in chunk["choices"]]
    return {
        "first": plain[0],
        "text": "".join(choice["delta"]["content"] or "" for choice in choices),
        "finishReasons": [choice["finish_reason"] for choice in choices if choice["finish_reason"]],
        "last": plain[-1],
    }


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return _plain(call())
    except openai.APIStatusError as error:
        return {"raised": type(error).__name__, "status": error.status_code, "body": error.body}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items() if name not in _LEFT_OUT}
    return value


if __name__ == "__main__":
    main()

"""Tools that a row names, and the calls in its answers, in the shapes that people's data has.

OpenAI's shape is the one that chat templates take: tools are {type: function, function: {name,
description, parameters}}, calls {id, type, function: {name, arguments}}. Without the wrapping they
are LLaMA-Factory's. Either may be JSON text, and so may a call's arguments, which are text in
OpenAI's own protocol, and objects in what templates are handed.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tunesmith_api.json_io import read_json
from tunesmith_trainer.data.rows import Tool, ToolCall, described

_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")


class RefusedRowError(Exception):
    """A row breaks its format: what was given, the rule, and what to do."""

    def __init__(self, *, given: str, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.given = given
        self.rule = rule
        self.remedy = remedy


def read_tools(value: Any) -> tuple[Tool, ...]:
    """The tools of a row; none if there are none.

    Raises:
        RefusedRowError: they have another shape.
    """
    if value in (None, "", []):
        return ()
    rule = "tools are a list, or its JSON text"
    tools = from_json(value, field="tools", rule=rule) if isinstance(value, str) else value
    if not isinstance(tools, list):
        raise _misshapen(value, field="tools", rule=rule)
    return tuple(
        {"type": "function", "function": _as_served(_function(tool, field="tools"))}
        for tool in tools
    )


def read_calls(value: Any, *, field: str) -> tuple[ToolCall, ...]:
    """The calls in an answer: a list of them, or one.

    Raises:
        RefusedRowError: they have another shape.
    """
    rule = f"{field} are calls of tools, or their JSON text"
    given = from_json(value, field=field, rule=rule) if isinstance(value, str) else value
    calls = []
    for call in given if isinstance(given, list) else [given]:
        function = _function(call, field=field)
        name = call.get("id")
        calls.append(
            ToolCall(
                name=text_of(function["name"], field=f"{field}.name"),
                arguments=_arguments(function.get("arguments"), field=f"{field}.arguments"),
                id=None if name is None else text_of(name, field=f"{field}.id"),
            )
        )
    return tuple(calls)


def text_of(value: Any, *, field: str) -> str:
    """Text as given; null is empty text.

    Raises:
        RefusedRowError: it is no text, or not Unicode.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RefusedRowError(
            given=f"{field}: {described(value)}",
            rule=f"{field} is text",
            remedy="write it as text, in quotes",
        )
    # json.loads accepts "\ud800"; no tokenizer and no UTF-8 file can take it.
    if _SURROGATES.search(value):
        raise RefusedRowError(
            given=f"{field}: {described(value)}",
            rule="text is Unicode, without halves of surrogate pairs",
            remedy="check what escaped it",
        )
    return value


def from_json(text: str, *, field: str, rule: str) -> Any:
    """What a JSON text stands for.

    Raises:
        RefusedRowError: it is none, against the rule.
    """
    try:
        return read_json(text)
    # RecursionError: brackets nested a thousand deep.
    except ValueError:
        raise _misshapen(text, field=field, rule=rule) from None


def _function(given: Any, *, field: str) -> Mapping[str, Any]:
    """The function that a tool or a call names, with or without OpenAI's wrapping."""
    inner = given.get("function") if isinstance(given, dict) else None
    function = given if inner is None else inner
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise _misshapen(
            given,
            field=field,
            rule=f'{field} are functions with a name: {{"type": "function", "function": {{"name": '
            "…}}",
        )
    # What cannot be written as UTF-8 breaks the tokenizer, however deep it lies.
    text_of(json.dumps(function, ensure_ascii=False, default=str), field=field)
    return function


def _as_served(function: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that vLLM hands a chat template, in its order; what is missing is null there, too.

    Trained otherwise, the model would be asked in words that it has never seen.
    """
    served = {name: function.get(name) for name in ("name", "description", "parameters")}
    if function.get("strict") is not None:
        served["strict"] = function["strict"]
    return served


def _arguments(given: Any, *, field: str) -> Mapping[str, Any]:
    if given in (None, ""):
        return {}
    rule = "arguments are an object, or its JSON text"
    arguments = from_json(given, field=field, rule=rule) if isinstance(given, str) else given
    if not isinstance(arguments, dict):
        raise _misshapen(given, field=field, rule=rule)
    text_of(json.dumps(arguments, ensure_ascii=False, default=str), field=field)
    return arguments


def _misshapen(value: Any, *, field: str, rule: str) -> RefusedRowError:
    return RefusedRowError(
        given=f"{field}: {described(value)}", rule=rule, remedy="write it so, or leave the row out"
    )

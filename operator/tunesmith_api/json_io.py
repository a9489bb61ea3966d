"""JSON of others: whatever it holds, it is read, or refused with a ValueError.

Python's parser ends in a RecursionError where brackets are nested some thousand deep, and what it
takes just before that ends the functions that walk over it.
"""

import json
import math
from typing import Any, Final

# Far below Python's own limit of recursion, as for YAML.
MAX_DEPTH: Final = 100


def read_json(text: str | bytes | bytearray) -> Any:
    """The value that `text` holds.

    Raises:
        ValueError: it is no JSON, or is nested deeper than 100 levels.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    # As a rule there are not even as many brackets, and nothing has to be walked over.
    if _num_brackets(text) > MAX_DEPTH and _is_deep(value):
        raise _too_deep()
    return value


def whole_number(value: Any) -> int:
    """The whole number that a value of others is, or is written as.

    Raises:
        TypeError: it is neither a number nor text.
        ValueError: it is none; JSON writes an infinite one as 1e999, which `int` does not expect.
    """
    try:
        return int(value)
    except OverflowError as error:
        raise ValueError(f"{value} is no whole number") from error


def finite_number(value: Any) -> float:
    """The finite number that a value of others is, or is written as.

    Raises:
        TypeError: it is neither a number nor text.
        ValueError: it is none.
    """
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError(f"a number of {len(str(value))} digits is too large") from error
    if not math.isfinite(number):
        raise ValueError(f"{value} is no finite number")
    return number


def _num_brackets(text: str | bytes | bytearray) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _is_deep(value: Any) -> bool:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        level = [
            child
            for parent in level
            if isinstance(parent, list | dict)
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, list | dict)
        ]
        depth += 1
    return bool(level)


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {MAX_DEPTH} levels")

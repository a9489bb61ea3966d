"""How much a YAML node stands for, with its aliases unfolded, before any value is made of it.

A few aliases of aliases, or merges of merges, write a billion values in a thousand characters.
"""

from collections.abc import Iterable
from typing import Final

import yaml

MAX_DEPTH: Final = 100


class UnfoldedSizeError(ValueError):
    """The node stands for more than a reader takes."""


def require_shallow(events: Iterable[yaml.Event]) -> None:
    """Do nothing if what `yaml.parse` gives is nested no deeper than 100 levels.

    NB: before anything is composed. On top of libyaml that calls itself in C for each level, and a
    line of brackets ends the process.

    Raises:
        UnfoldedSizeError: it is nested deeper.
    """
    depth = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise UnfoldedSizeError(f"it is nested deeper than {MAX_DEPTH} levels")


def unfolded_characters(node: yaml.Node, *, max_nodes: int, max_characters: int) -> int:
    """The characters of all scalars that `node` stands for.

    Raises:
        UnfoldedSizeError: it has more nodes or characters than that, or is nested deeper than 100
            levels, as one that holds itself is.
    """
    pending, num_nodes, num_characters = [(node, 0)], 0, 0
    while pending:
        one, depth = pending.pop()
        num_nodes += 1
        if isinstance(one, yaml.ScalarNode):
            num_characters += len(one.value)
        elif isinstance(one, yaml.MappingNode):
            pending += [(part, depth + 1) for pair in one.value for part in pair]
        else:
            pending += [(part, depth + 1) for part in one.value]
        if num_nodes + len(pending) > max_nodes or num_characters > max_characters:
            raise UnfoldedSizeError(
                f"it stands for more than {max_nodes:,} values or {max_characters:,} characters; "
                "write it without aliases"
            )
        if depth > MAX_DEPTH:
            raise UnfoldedSizeError(f"it is nested deeper than {MAX_DEPTH} levels")
    return num_characters

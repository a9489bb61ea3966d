"""YAML files to rows: a list of rows, or `conversations`, each a list of turns.

The second is the dialect of chatterbot-corpus. Turns are taken as they are written, so that an
unquoted `yes` or `10` stays the words the author wrote.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from tunesmith_trainer.data.rows import Problems, quoted

# The same loader on top of libyaml, ten times as fast where it was built in.
_Loader: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_yaml(text: str, *, label: str, problems: Problems) -> Iterator[tuple[int, Any]]:
    """Line and value of every row."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        for item in _items(root, label, problems):
            yield item.start_mark.line + 1, _row(loader, item, label, problems)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problems.add(
            f"{label}:{mark.line + 1}" if mark else label,
            given="a broken document",
            rule=f"this is not YAML ({getattr(error, 'problem', None) or error})",
            remedy="mend it, or check whether the file was cut off",
        )
    finally:
        loader.dispose()


def _items(root: yaml.Node | None, label: str, problems: Problems) -> list[yaml.Node]:
    """The nodes of the rows, whichever of the two shapes the file has."""
    if root is None:
        return []
    if isinstance(root, yaml.MappingNode):
        named = {key.value: value for key, value in root.value}
        root = named.get("conversations", root)
    if isinstance(root, yaml.SequenceNode):
        return list(root.value)
    problems.add(
        f"{label}:{root.start_mark.line + 1}",
        given="a document without conversations",
        rule="a YAML file is a list of rows, or has `conversations: [[question, answer], …]`",
        remedy="bring it into one of these shapes",
    )
    return []


def _row(loader: Any, item: yaml.Node, label: str, problems: Problems) -> Any:
    if not isinstance(item, yaml.SequenceNode):
        return loader.construct_object(item, deep=True)
    return [_turn(loader, each, label, problems) for each in item.value]


def _turn(loader: Any, node: yaml.Node, label: str, problems: Problems) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "" if node.tag == "tag:yaml.org,2002:null" else str(node.value)
    problems.add(
        f"{label}:{node.start_mark.line + 1}",
        given=quoted(loader.construct_object(node, deep=True)),
        rule="a turn is text",
        remedy="put it in quotes: an unquoted colon, bracket or brace makes it something else",
    )
    return ""

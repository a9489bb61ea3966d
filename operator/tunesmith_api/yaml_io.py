"""YAML as kubectl reads it, both ways: manifests with the line of every field, and what we write.

The first step from a file to a resource; `manifest.py` is the second. Scalars follow the rules of
kubectl's reader, not PyYAML's own: `2e-4` is a number and `2026-11-24` is text. Duplicate keys,
several documents and runaway aliases are refused. The CRDs and the `ModelVersion` beside a
published model are written here.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml
from pydantic import JsonValue

from tunesmith_api.base import JsonMapping
from tunesmith_api.field_paths import FieldPath

MAX_CHARACTERS: Final = 500_000
# Nodes with their aliases unfolded: a few aliases of aliases write a billion values in a thousand
# characters.
MAX_NODES: Final = 20_000
# Far below Python's own limit of recursion, at which PyYAML and the models would break off.
MAX_DEPTH: Final = 100
# Of a whole number. What is longer is too large for a float in any base; and NB: Python does not
# read more than 4,300 of them, and says so with a plain ValueError.
_MAX_DIGITS: Final = 320
_WIDTH: Final = 80
_TOO_MUCH: Final = (
    f"more than {MAX_NODES:,} values, or nested deeper than {MAX_DEPTH}; write it without aliases"
)
_NO_MAPPING: Final = "no mapping; a manifest starts with apiVersion, kind, metadata and spec"


class YamlError(ValueError):
    """The text is not one YAML mapping; `line` counts from 1 and is 0 where no line is to blame."""

    def __init__(self, message: str, *, line: int = 0, path: FieldPath = ()) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.path = path


@dataclass(frozen=True, slots=True)
class YamlSource:
    """One mapping, and the line on which each of its fields stands."""

    value: dict[str, JsonValue]
    lines: dict[FieldPath, int]

    def line_of(self, path: FieldPath) -> int:
        """The line of the field, or of the nearest field around it that was given."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


class _Loader(yaml.SafeLoader):
    """A safe loader whose scalars are those of kubectl, which reads YAML 1.1 as Go does.

    It starts with no resolvers: PyYAML's read 1:30 as a number in base 60 and a date as a date.
    """

    yaml_implicit_resolvers = {}  # noqa: RUF012 - the base class reads it from the class
    bool_values = {**yaml.SafeLoader.bool_values, "y": True, "n": False}  # noqa: RUF012 - as above

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803 - PyYAML's own name
        """A bracket that opens; of some thousand nested ones each is held against all others."""
        if self.flow_level >= MAX_DEPTH:
            raise YamlError(_TOO_MUCH, line=self.line + 1)
        super().fetch_flow_collection_start(TokenClass)

    def construct_whole(self, node: yaml.ScalarNode) -> int | str:
        """0x, 0b, 0o and, as in YAML 1.1, a leading 0 name the base; what is endless stays text."""
        digits = node.value.replace("_", "")
        if len(digits) > _MAX_DIGITS:
            return str(node.value)
        is_octal = _OCTAL.match(digits) is not None
        return int(digits, 8 if is_octal else 0)

    def construct_real(self, node: yaml.ScalarNode) -> float | str:
        """A number too large for a float stays the text it is."""
        if node.value.lower().lstrip("+-") in {".inf", ".nan"}:
            return float(node.value.lower().replace(".", ""))
        number = float(node.value.replace("_", ""))
        return node.value if math.isinf(number) else number


_HALF = re.compile(r"[\ud800-\udfff]")
_OCTAL = re.compile(r"^[-+]?0[0-7]+$")
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_real)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool",
    re.compile(
        r"^(?:true|True|TRUE|false|False|FALSE|y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF)$"
    ),
    list("tTfFyYnNoO"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(
        r"^[-+]?(?:0[xX]_*[0-9a-fA-F][0-9a-fA-F_]*|0[bB]_*[01][01_]*|0[oO]?_*[0-7][0-7_]*"
        r"|0|[1-9][0-9_]*)$"
    ),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$"
        r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])


def read_yaml(text: str) -> YamlSource:
    """Read the one mapping that `text` holds.

    Raises:
        YamlError: it is no YAML, no mapping, several documents, too large, or names a field twice.
    """
    if len(text) > MAX_CHARACTERS:
        raise YamlError(f"{len(text):,} characters; a manifest has at most {MAX_CHARACTERS:,}")
    try:
        loader = _Loader(text)
        node = _only_document(loader)
        lines = dict(_lines(node))
        value = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(f"no YAML: {error.problem}", line=mark.line + 1 if mark else 0) from error
    except RecursionError:
        raise YamlError(_TOO_MUCH) from None
    except yaml.YAMLError as error:
        raise YamlError(f"no YAML that can be read: {error}") from error
    plain = _as_json(value)
    if not isinstance(plain, dict):
        raise YamlError(_NO_MAPPING)
    return YamlSource(value=plain, lines=lines)


def _only_document(loader: _Loader) -> yaml.MappingNode:
    nodes: list[yaml.Node] = []
    while loader.check_node():
        node = loader.get_node()
        # Generators leave a separator at either end: a document without content does not count.
        if node is not None and node.tag != "tag:yaml.org,2002:null":
            nodes.append(node)
    if not nodes:
        raise YamlError(
            "empty; a manifest is one YAML mapping with apiVersion, kind, metadata, spec"
        )
    if len(nodes) > 1:
        raise YamlError(
            f"{len(nodes)} documents in one file; keep one, and give the others their own files",
            line=nodes[1].start_mark.line + 1,
        )
    if not isinstance(nodes[0], yaml.MappingNode):
        raise YamlError(_NO_MAPPING, line=1)
    return nodes[0]


def _lines(root: yaml.Node) -> Iterator[tuple[FieldPath, int]]:
    """The line of every field.

    NB: walked before any value is built, for it is here that aliases are counted.
    """
    pending: list[tuple[FieldPath, yaml.Node]] = [((), root)]
    num_nodes = 0
    while pending:
        path, node = pending.pop()
        num_nodes += 1
        if num_nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise YamlError(_TOO_MUCH)
        if isinstance(node, yaml.MappingNode):
            children = list(_fields(node, path=path))
        elif isinstance(node, yaml.SequenceNode):
            children = [
                (index, item.start_mark.line + 1, item) for index, item in enumerate(node.value)
            ]
        else:
            _join_halves(node)
            children = []
        for key, line, child in children:
            yield (*path, key), line
            pending.append(((*path, key), child))


def _fields(
    node: yaml.MappingNode, *, path: FieldPath
) -> Iterator[tuple[str | int, int, yaml.Node]]:
    """Key, line and value of each field; the keys are made text, whatever they look like."""
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise YamlError("a field's name must be plain text", line=line, path=path)
        _join_halves(key)
        if key.value in seen:
            raise YamlError(
                f"given twice, first on line {seen[key.value]}; keep one of them",
                line=line,
                path=(*path, key.value),
            )
        seen[key.value] = line
        # NB: << is no field but the merge of another mapping, which PyYAML knows by its tag.
        if key.tag != "tag:yaml.org,2002:merge":
            key.tag = "tag:yaml.org,2002:str"
        yield key.value, line, value


def _join_halves(node: yaml.Node) -> None:
    r"""Make one character of each pair such as \ud83d\ude00, as JSON writes what is beyond 16 bits.

    Raises:
        YamlError: a half stands alone.
    """
    if _HALF.search(node.value) is None:
        return
    try:
        node.value = node.value.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        line = node.start_mark.line + 1
        message = "one of \\ud800 to \\udfff alone is half of a character; write the whole one"
        raise YamlError(message, line=line) from error


def _as_json(value: object) -> JsonValue:
    """`value` with whole numbers written as such, as kubectl sends them: 16.0 is 16."""
    if isinstance(value, dict):
        return {str(key): _as_json(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_as_json(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise YamlError(f"a value of type {type(value).__name__}; write it as text, in quotes")


def write_yaml(value: JsonMapping) -> str:
    """One document, fields in the order given."""
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True, encoding=None
    )


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their field, and nothing is written as a reference to a twin."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - PyYAML's own signature
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - PyYAML's own signature
        return True


# NB: kubectl reads y and n as true and false, also where they name a field; PyYAML would not quote.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^[yYnN]$"), list("yYnN"))

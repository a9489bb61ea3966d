"""YAML that kubectl and linters read as it was meant.

Everything this project writes as YAML goes through here: the CRDs and the `ModelVersion` beside a
published model. `yaml_source.py` is the way back.
"""

import re

import yaml

from tunesmith_api.base import JsonMapping

_WIDTH = 80


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

"""The chart as Helm draws it, without a cluster: a list of objects."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[2] / "charts" / "tunesmith"
Manifest = dict[str, Any]

# Every part that is off by default, switched on.
EVERYTHING: dict[str, Any] = {
    "metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
    "alerts": {"enabled": True},
    "dashboard": {"enabled": True},
    "networkPolicy": {"stages": {"namespaces": ["team"]}},
}


@cache
def chart() -> helm_python.Chart:
    """The chart of this repository, loaded once."""
    return helm_python.Chart.load(CHART)


def rendered(
    values: Mapping[str, Any] | None = None, *, name: str = "tunesmith", namespace: str = "ml"
) -> list[Manifest]:
    """The objects of a release with these values, which the schema has to allow."""
    given = dict(values or {})
    chart().validate_schema(given)
    files = chart().render(given, name=name, namespace=namespace)
    texts = [text for path, text in files.items() if not path.endswith(".txt")]
    return [each for text in texts for each in _objects(text)]


@cache
def _objects(text: str) -> list[Manifest]:
    """The definitions are long and mostly the same, so each text is read once."""
    return [each for each in yaml.load_all(text, Loader=yaml.CSafeLoader) if each]


def one(objects: list[Manifest], kind: str) -> Manifest:
    """The only object of its kind."""
    (found,) = (each for each in objects if each["kind"] == kind)
    return found


def container(objects: list[Manifest]) -> Manifest:
    """The operator's container."""
    (found,) = one(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(found)

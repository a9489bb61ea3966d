"""Manifests of jobs and versions: builders for examples, strategies for property tests.

The strategies walk the CRD's own schema, so that a new field is generated without being named here,
and lean towards the edges of every bound.
"""

import copy
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from hypothesis import strategies as st

from tunesmith_api.crds import crds
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_engine.stages.catalog import CATALOG

Manifest = dict[str, Any]
Schema = dict[str, Any]
Path = tuple[str | int, ...]

# Without what YAML forbids or folds, and what no font shows.
_TEXT = st.characters(
    min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cc", "Cf", "Cn", "Cs", "Zl", "Zp"]
)
# Of what has several lines, as a key in PEM.
_LINES = st.characters(
    min_codepoint=32,
    max_codepoint=0x2FFF,
    exclude_categories=["Cc", "Cf", "Cn", "Cs", "Zl", "Zp"],
    include_characters="\r\n",
)
_JUNK: tuple[Any, ...] = (
    None, True, "", "16", "true", "no", -1, 0, 1, 3, 2**31, 10**12, 0.5, -0.25, 1e-7, 1.5, 1e300,
    [], {}, [None], [{}], {"a": "b"}, "file://a b", "ftp://x", "hf://é/ü", "W8A8", "Ab", "a" * 2000,
)  # fmt: skip


@cache
def schema_of(kind: str) -> Schema:
    """The schema of a whole object of that kind, the same one at every call: it is only read."""
    for crd in crds().values():
        spec: Any = crd["spec"]
        if spec["names"]["kind"] == kind:
            schema: Schema = spec["versions"][0]["schema"]["openAPIV3Schema"]
            return schema
    raise KeyError(f"no CRD of kind {kind}")


def a_job(**spec: Any) -> Manifest:
    """The smallest job, with the top-level fields of its spec replaced or added."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "helpdesk"},
        "spec": {
            "model": {"uri": "hf://HuggingFaceTB/SmolLM2-135M-Instruct"},
            "dataset": {"train": {"uri": "s3://tickets/2026-11.jsonl"}},
            "output": {"model": "helpdesk"},
            **spec,
        },
    }


# The stages that `a_job` goes through. The catalogue has others, which a job has to ask for.
DEFAULT_STAGES: Final = tuple(
    stage.name for stage in CATALOG.applying(FineTuneJob.model_validate(a_job()).spec)
)


def a_version(**spec: Any) -> Manifest:
    """The smallest model version, with the top-level fields of its spec replaced or added."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": "helpdesk-1a2b3c"},
        "spec": {
            "model": "helpdesk",
            "version": "1a2b3c",
            "uri": "s3://models/helpdesk/1a2b3c",
            "digest": f"sha256:{'0' * 64}",
            "scheme": "W8A8",
            "files": [],
            "lineage": {"job": "helpdesk", "baseModel": "hf://a/b", "baseRevision": "main",
                        "dataDigest": f"sha256:{'1' * 64}"},
            **spec,
        },
    }  # fmt: skip


def a_deployment(**spec: Any) -> Manifest:
    """The smallest deployment, with the top-level fields of its spec replaced or added."""
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "helpdesk"},
        "spec": {"model": "helpdesk", **spec},
    }


@st.composite
def jobs(draw: st.DrawFn) -> Manifest:
    """Jobs whose every field keeps its own bounds; most keep the rules across fields too."""
    job = a_job(**draw(_specs()))
    if draw(st.integers(0, 3)):
        _mend(job["spec"])
    return job


@st.composite
def broken_jobs(draw: st.DrawFn) -> Manifest:
    """Jobs with one to three faults: a wrong type, a value past its bound, a field too many."""
    job = draw(jobs())
    for _ in range(draw(st.integers(1, 3))):
        _break(draw, job)
    return job


@st.composite
def deployments(draw: st.DrawFn) -> Manifest:
    """Deployments whose every field keeps its own bounds; most keep the rules across fields too."""
    deployment = a_deployment(**draw(_deployment_specs()))
    if draw(st.integers(0, 3)):
        _mend_deployment(deployment["spec"])
    return deployment


@st.composite
def broken_deployments(draw: st.DrawFn) -> Manifest:
    """Deployments with one to three faults, as `broken_jobs` has them."""
    deployment = draw(deployments())
    for _ in range(draw(st.integers(1, 3))):
        _break(draw, deployment)
    return deployment


@cache
def _deployment_specs() -> st.SearchStrategy[Manifest]:
    return values_of(schema_of("ModelDeployment")["properties"]["spec"])


@cache
def _specs() -> st.SearchStrategy[Manifest]:
    """Built once: a strategy per example would compile every pattern of the schema anew."""
    return values_of(schema_of("FineTuneJob")["properties"]["spec"])


def values_of(node: Schema) -> st.SearchStrategy[Any]:
    """Values that the structure of a schema lets pass; its CEL rules are not looked at."""
    if "enum" in node:
        return st.sampled_from(node["enum"])
    match node["type"]:
        case "object":
            return _objects(node)
        case "array":
            least = node.get("minItems", 0)
            most = min(least + 2, node.get("maxItems", least + 2))
            return st.lists(values_of(node["items"]), min_size=least, max_size=most)
        case "boolean":
            return st.booleans()
        case "string":
            return _texts(node)
        case _:
            edges = _edges(node)
            return st.sampled_from(edges) | _numbers(node) if edges else _numbers(node)


def _objects(node: Schema) -> st.SearchStrategy[Any]:
    if "properties" not in node:
        names = _names(node)
        return st.dictionaries(names, values_of(node["additionalProperties"]), max_size=2)
    fields = {name: values_of(child) for name, child in node["properties"].items()}
    required = {name: fields[name] for name in node.get("required", [])}
    return st.fixed_dictionaries(
        required, optional={name: fields[name] for name in fields if name not in required}
    )


def _names(node: Schema) -> st.SearchStrategy[str]:
    """Keys of a mapping; the schema can ask for a pattern by a rule alone."""
    rules = "".join(
        each["rule"].replace("' + '", "") for each in node.get("x-kubernetes-validations", [])
    )
    listed = re.search(r"name in \[([^\]]*)\]", rules)
    if listed is not None:
        return st.sampled_from(re.findall(r"'([^']*)'", listed[1]))
    pattern = re.search(r"matches\('(.*)'\)", rules)
    if pattern is None:
        return st.text(_TEXT, min_size=1, max_size=6)
    found = st.from_regex(pattern[1], fullmatch=True, alphabet=_TEXT)
    return found.filter(lambda name: len(name) <= 63)


def _texts(node: Schema) -> st.SearchStrategy[str]:
    if node.get("format") == "date-time":
        return st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
    longest = min(node.get("maxLength", 20), 20)
    if "pattern" in node:
        alphabet = _LINES if r"\n" in node["pattern"] else _TEXT
        found = st.from_regex(node["pattern"], fullmatch=True, alphabet=alphabet)
        return found.filter(lambda text: len(text) <= node["maxLength"])
    return st.text(_TEXT, min_size=node.get("minLength", 0), max_size=longest)


def _numbers(node: Schema) -> st.SearchStrategy[Any]:
    low, high = node.get("minimum", -1e6), node.get("maximum", 1e6)
    if node["type"] == "integer":
        return st.integers(math.ceil(low), math.floor(high))
    return st.floats(
        low,
        high,
        exclude_min=node.get("exclusiveMinimum", False),
        exclude_max=node.get("exclusiveMaximum", False),
        allow_subnormal=False,
    )


def _edges(node: Schema) -> list[Any]:
    """The least and the greatest value that are allowed, and the default."""
    found = [node["default"]] if "default" in node else []
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if bound in node and not node.get(exclusive, False):
            found.append(node[bound])
    return found


def _mend(spec: Manifest) -> None:
    """Take out what the rules across fields refuse, told here once more and in other words."""
    _drop(spec, "training.maxSteps")
    _drop(spec, "training.schedule.warmupRatio")
    _drop(spec, "training.schedule.decayRatio")
    _drop(spec, "training.schedule.cycles")
    _drop(spec, "training.lora.useDora")
    _drop(spec, "dataset.validationFraction")
    _drop(spec, "model.revision")
    _drop(spec, "compression.quantize.groupSize")
    _drop(spec, "resources.workers")
    _drop(spec, "workspace.claimName")
    _drop(spec, "workspace.uri")
    _mend_tolerations(spec)
    for holder in (
        "model",
        "dataset.train",
        "dataset.validation",
        "evaluation.generalText",
        "output",
        "workspace",
    ):
        _drop(spec, f"{holder}.secretRef")
    if "evaluation" in spec:
        spec["evaluation"].pop("generation", None)
        for gate in spec["evaluation"].get("gates", []):
            for bound in ("min", "max", "minDelta", "maxDelta"):
                gate.pop(bound, None)
            gate |= {"suite": "heldOut", "metric": "loss", "maxDelta": 0.5}
        for number, suite in enumerate(spec["evaluation"].get("suites", [])):
            suite["name"] = f"suite-{number}"
            suite.pop("secretRef", None)
    if "batch" in spec.get("training", {}):
        spec["training"]["batch"] = {"size": 8, "microBatchSize": 8}


def _mend_deployment(spec: Manifest) -> None:
    _mend_tolerations(spec)
    rollout = spec.get("rollout", {})
    for number, step in enumerate(rollout.get("steps", [])):
        step["weight"] = 10 * (number + 1)
    analysis = rollout.get("analysis", {})
    if analysis:
        analysis |= {"deadlineSeconds": 1e9, "windowSeconds": 10.0, "warmupSeconds": 60.0}
    for limits in analysis.get("metrics", {}).values():
        limits |= {"tolerated": 0.0, "minimumEffect": 0.01, "bound": 1.0}


def _mend_tolerations(spec: Manifest) -> None:
    for toleration in spec.get("resources", {}).get("tolerations", []):
        toleration.pop("value", None)
        toleration.pop("tolerationSeconds", None)
        toleration["operator"] = "Exists"


def _drop(spec: Manifest, dotted: str) -> None:
    *holders, field = dotted.split(".")
    found: Any = spec
    for part in holders:
        found = found.get(part, {})
    found.pop(field, None)


def _break(draw: st.DrawFn, job: Manifest) -> None:
    places = [path for path in _paths(job, ()) if path[:1] == ("spec",) and len(path) > 1]
    if not places:
        return
    path = draw(st.sampled_from(places))
    *holders, last = path
    holder: Any = job
    for part in holders:
        holder = holder[part]
    match draw(st.sampled_from(["junk", "edge", "misspell", "remove", "add"])):
        case "junk":
            holder[last] = copy.deepcopy(draw(st.sampled_from(_JUNK)))
        case "edge" if isinstance(holder[last], int | float):
            holder[last] += draw(st.sampled_from([-1, 1, 1e9, -1e9, 0.5]))
        case "misspell" if isinstance(holder, dict):
            holder[f"{last}x"] = holder.pop(last)
        case "remove" if isinstance(holder, dict):
            del holder[last]
        case _ if isinstance(holder[last], dict):
            holder[last]["bogus"] = draw(st.sampled_from(_JUNK))
        case _:
            holder[last] = [holder[last]]


def _paths(value: Any, path: Path) -> Iterator[Path]:
    yield path
    if isinstance(value, dict):
        for key, child in value.items():
            yield from _paths(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _paths(child, (*path, index))

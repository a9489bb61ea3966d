"""The CRDs: structural, complete, checked in, and closed to code from elsewhere."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from admission import refusals
from manifests import a_job, a_version, schema_of
from tunesmith_api.crds import crd_files, crds, crds_yaml
from tunesmith_api.finetunejob.rules import MUTABLE_FIELDS
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.manifest import load_job
from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.uris import FOLDER_PATTERN, SOURCE_PATTERN, STORE_PATTERN, TARGET_PATTERN
from tunesmith_api.yaml_io import read_yaml, write_yaml

CHECKED_IN = Path(__file__).parents[3] / "charts" / "tunesmith" / "files" / "crds"

# What the API server's structural schemas know; anything else it refuses or drops in silence.
STRUCTURAL = {
    "additionalProperties", "default", "description", "enum", "exclusiveMaximum",
    "exclusiveMinimum", "format", "items", "maximum", "maxItems", "maxLength", "maxProperties",
    "minimum", "minItems", "minLength", "pattern", "properties", "required", "type",
    "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-validations",
}  # fmt: skip


def nodes(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in node:
            yield from nodes(node[inner], f"{path}[]")


@pytest.mark.parametrize("name", crd_files())
def test_checked_in_file_is_what_the_models_give(name: str) -> None:
    """`make crds` writes them; a changed model without it is caught here."""
    stale = f"{CHECKED_IN / name} is stale; run `make crds`"

    assert (CHECKED_IN / name).read_text(encoding="utf-8") == crd_files()[name], stale


def test_nothing_else_lies_in_the_folder() -> None:
    """The chart installs every file it finds there."""
    assert {path.name for path in CHECKED_IN.iterdir()} == set(crds())


def test_the_stream_for_kubectl_holds_every_definition() -> None:
    """`tunesmith crds | kubectl apply -f -` installs them."""
    assert list(yaml.safe_load_all(crds_yaml())) == list(crds().values())


@pytest.mark.parametrize("kind", ["FineTuneJob", "ModelVersion"])
def test_schema_is_structural(kind: str) -> None:
    """Every place has a type, and only words that the API server knows."""
    for path, node in nodes(schema_of(kind)):
        assert "type" in node, path
        assert set(node) <= STRUCTURAL, path


@pytest.mark.parametrize("kind", ["FineTuneJob", "ModelVersion"])
def test_what_people_write_is_bounded(kind: str) -> None:
    """Without bounds the server cannot tell what a rule may cost, and refuses the CRD."""
    bounds = {"string": "maxLength", "array": "maxItems"}
    for path, node in nodes(schema_of(kind)["properties"]["spec"]):
        if node["type"] in bounds and "enum" not in node:
            assert bounds[node["type"]] in node, path
        if "additionalProperties" in node:
            assert "maxProperties" in node, path


@pytest.mark.parametrize("file", crds())
def test_printer_columns_show_fields_that_exist(file: str) -> None:
    """A column over a misspelt field stays empty for ever."""
    version: Any = crds()[file]["spec"]
    schema = version["versions"][0]["schema"]["openAPIV3Schema"]
    known = {path for path, _ in nodes(schema)} | {".metadata.creationTimestamp"}

    for column in version["versions"][0]["additionalPrinterColumns"]:
        assert re.sub(r"\[[^]]*\]", "[]", column["jsonPath"]) in known, column["name"]


def test_every_input_is_fixed_once_the_job_has_started() -> None:
    """One rule for each field but those that may change."""
    schema = schema_of("FineTuneJob")
    rules = schema["x-kubernetes-validations"]

    fixed = {rule["fieldPath"].removeprefix(".spec.") for rule in rules}

    assert fixed == set(schema["properties"]["spec"]["properties"]) - set(MUTABLE_FIELDS)


URI_PATTERNS = {FOLDER_PATTERN, SOURCE_PATTERN, STORE_PATTERN, TARGET_PATTERN}


def test_no_field_lets_code_from_elsewhere_run() -> None:
    """Neither a field for remote code, nor a URI that is not held to the known schemes."""
    for path, node in nodes(schema_of("FineTuneJob")["properties"]["spec"]):
        named = path.replace("imagePullSecrets", "")
        assert not re.search("remote|code|trust|pickle|image|command", named, re.IGNORECASE), path
        if path.endswith(".uri"):
            assert node["pattern"] in URI_PATTERNS


def test_field_names_that_read_as_truth_values_are_quoted() -> None:
    """kubectl reads a bare n as false, also as the name of a field."""
    version = a_version(
        evaluation=[{"suite": "heldOut", "split": "tuned", "metric": "loss", "value": 1.5, "n": 3}]
    )

    text = write_yaml(version)

    assert "'n': 3" in text
    assert read_yaml(text).value == version


def test_a_version_reads_back_what_it_wrote() -> None:
    """The record beside a model is the record in the cluster."""
    version = ModelVersion.model_validate(a_version())

    text = write_yaml(version.model_dump(mode="json", by_alias=True, exclude_none=True))

    assert ModelVersion.model_validate(read_yaml(text).value) == version


def test_a_written_job_reads_back_the_same() -> None:
    """Defaults spelt out mean what defaults left out mean."""
    job = load_job(json.dumps(a_job()))

    text = write_yaml(job.model_dump(mode="json", by_alias=True, exclude_none=True))

    assert load_job(text) == job


@pytest.mark.parametrize("word", ["Prune", "CrossValidating"])
def test_a_newer_release_may_observe_phases_and_conditions_of_its_own(word: str) -> None:
    """A server with today's definition stores them, and today's models read them back."""
    condition = {
        "type": word,
        "status": "True",
        "reason": "Succeeded",
        "lastTransitionTime": "2026-11-01T00:00:00Z",
    }
    observed = {"phase": word, "conditions": [condition]}

    assert not refusals(schema_of("FineTuneJob")["properties"]["status"], observed)
    assert not FineTuneJobStatus.model_validate(observed).is_finished


def test_a_word_that_kubectl_could_not_wait_for_is_refused() -> None:
    """`kubectl wait --for=condition=` and kstatus know CamelCase words only."""
    with pytest.raises(ValidationError, match="phase"):
        FineTuneJobStatus.model_validate({"phase": "cross validating"})
    assert refusals(schema_of("FineTuneJob")["properties"]["status"], {"phase": "training"})

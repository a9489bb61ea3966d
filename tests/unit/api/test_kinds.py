"""A kind is its module and one row: definition, columns, rules and pages derive from them."""

import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import pytest
from pydantic import Field, model_validator

from admission import refusals
from manifests import a_version
from tunesmith_api.base import API_VERSION, ApiModel
from tunesmith_api.crds import crd_of
from tunesmith_api.field_reference import page_name, reference_page
from tunesmith_api.field_types import Fraction, ShortText
from tunesmith_api.kinds import KINDS, Kind
from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.metadata import ObjectMeta
from tunesmith_api.modelversion import ModelVersion
from tunesmith_api.printer_columns import PrinterColumn
from tunesmith_api.rules import Rule, TransitionRule, check_rules

PAGES = Path(__file__).parents[3] / "docs" / "reference"


class TrafficSplitSpec(ApiModel):
    """The spec of a kind that exists for this test alone."""

    stable: ShortText
    candidate: ShortText | None = None
    weight: Fraction = 0.0
    step: Annotated[float, Field(gt=0, le=1)] | None = Field(None, description="A part of all.")


RULES: Final[tuple[Rule[TrafficSplitSpec], ...]] = (
    Rule(
        name="weight-of-a-candidate",
        scopes=("",),
        field="weight",
        holds=lambda split: split.candidate is not None or split.weight == 0,
        cel="has(self.candidate) || self.weight == 0.0",
        message="without a candidate all traffic is stable's; name one, or leave weight out",
    ),
)


class TrafficSplit(ApiModel):
    """A kind that exists for this test alone."""

    api_version: Literal["tunesmith.dev/v1alpha1"] = API_VERSION
    kind: Literal["TrafficSplit"] = "TrafficSplit"
    metadata: ObjectMeta
    spec: TrafficSplitSpec

    @model_validator(mode="after")
    def keeps_the_rules(self) -> Self:
        """As every kind with rules does."""
        check_rules(self, self.spec, RULES)
        return self


ROW = Kind(
    model=TrafficSplit,
    plural="trafficsplits",
    short_name="tsp",
    columns=(PrinterColumn("Weight", "number", ".spec.weight", "To the candidate."),),
    rules=RULES,
    transition_rules=(
        TransitionRule(
            scope="spec.stable", field="", cel="self == oldSelf", message="stable is fixed"
        ),
    ),
)


def a_split(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "TrafficSplit",
        "metadata": {"name": "helpdesk"},
        "spec": {"stable": "v1", **spec},
    }


def version_of(kind: Kind) -> dict[str, Any]:
    spec: Any = crd_of(kind)["spec"]
    version: dict[str, Any] = spec["versions"][0]
    return version


def test_a_row_gives_the_definition() -> None:
    definition: Any = crd_of(ROW)

    assert definition["metadata"]["name"] == "trafficsplits.tunesmith.dev"
    assert definition["spec"]["names"]["kind"] == "TrafficSplit"
    assert definition["spec"]["names"]["shortNames"] == ["tsp"]
    assert "subresources" not in version_of(ROW)
    assert version_of(ROW)["additionalPrinterColumns"][0]["jsonPath"] == ".spec.weight"


def test_what_may_change_stands_where_the_row_says() -> None:
    schema = version_of(ROW)["schema"]["openAPIV3Schema"]

    assert schema["properties"]["spec"]["properties"]["stable"]["x-kubernetes-validations"] == [
        {"rule": "self == oldSelf", "message": "stable is fixed"}
    ]


def test_the_rules_of_another_kind_are_checked_here_and_by_the_server() -> None:
    """With the same words, at the same field, and with the line of the manifest."""
    schema = version_of(ROW)["schema"]["openAPIV3Schema"]
    sound, broken = a_split(candidate="v2", weight=0.5), a_split(weight=0.5)

    assert load_resource(json.dumps(sound), TrafficSplit).spec.weight == 0.5
    assert refusals(schema, sound) == []
    with pytest.raises(ManifestError) as caught:
        load_resource(json.dumps(broken, indent=1), TrafficSplit, source="split.yaml")

    assert str(caught.value) == f"split.yaml:9: spec.weight: {RULES[0].message}"
    assert refusals(schema, broken) == [f".spec.weight: {RULES[0].message}"]


def test_errors_of_another_kind_speak_of_its_own_fields_and_page() -> None:
    with pytest.raises(ManifestError) as caught:
        load_resource(json.dumps(a_split(stabel="v1", weight=[])), TrafficSplit)

    text = str(caught.value)
    assert "spec.stabel: unknown field; did you mean 'stable'?" in text
    assert "docs/reference/trafficsplit.md says what it takes" in text


def test_a_kind_without_status_has_a_page_of_its_spec_alone() -> None:
    page = reference_page(TrafficSplit)

    assert page.startswith("# TrafficSplit\n")
    assert "## spec\n" in page
    assert "## status" not in page


def test_a_record_of_a_cluster_is_read_off_line() -> None:
    version = load_resource(json.dumps(a_version()), ModelVersion)

    assert version.spec.version == "1a2b3c"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_says_its_own_name_and_has_a_page(kind: Kind) -> None:
    """The name of the class is the name of the kind, which rows and pages rely on."""
    assert kind.model.model_fields["kind"].default == kind.name
    assert (PAGES / page_name(kind.model)).is_file()


def test_the_reference_gives_the_bounds_of_a_value_that_may_be_left_out() -> None:
    assert "| `step` | number |  | A part of all. > 0, ≤ 1 |" in reference_page(TrafficSplit)

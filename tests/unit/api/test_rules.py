"""Every rule across fields holds in Python and in CEL, and points at the field to mend."""

import json
from typing import Any

import pytest

from admission import refusals
from manifests import a_job, schema_of
from rule_breaches import BREACHES
from tunesmith_api.finetunejob.rules import MUTABLE_FIELDS, RULES
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.manifest import ManifestError, load_job

CASES = [(name, *case) for name, cases in BREACHES.items() for case in cases]
BY_NAME = {rule.name: rule for rule in RULES}


def test_every_rule_is_tried() -> None:
    """A new rule brings what breaks it, at every place where it holds."""
    assert set(BREACHES) == set(BY_NAME)
    assert len(BREACHES["secret-for-remote-sources"]) == len(
        BY_NAME["secret-for-remote-sources"].scopes
    )


@pytest.mark.parametrize(("name", "broken", "field", "kept"), CASES)
def test_models_point_at_the_field_to_mend(
    name: str, broken: dict[str, Any], field: str, kept: dict[str, Any]
) -> None:
    """The rule's own message, at the field, and nothing beside it."""
    load_job(json.dumps(a_job(**kept)))

    with pytest.raises(ManifestError) as caught:
        load_job(json.dumps(a_job(**broken)))

    assert [problem.path for problem in caught.value.problems] == [field]
    assert caught.value.problems[0].message == BY_NAME[name].message


@pytest.mark.parametrize(("name", "broken", "field", "kept"), CASES)
def test_cel_gives_the_same_verdict_with_the_same_words(
    name: str, broken: dict[str, Any], field: str, kept: dict[str, Any]
) -> None:
    """The API server says what the command line says."""
    schema = schema_of("FineTuneJob")

    assert refusals(schema, a_job(**kept)) == []
    assert refusals(schema, a_job(**broken)) == [f".{field}: {BY_NAME[name].message}"]


def test_fields_that_may_change_exist() -> None:
    """A renamed field would silently become an input."""
    fields = {field.alias for field in FineTuneJobSpec.model_fields.values()}

    assert set(MUTABLE_FIELDS) < fields

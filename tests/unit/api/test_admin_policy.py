"""What an admin may limit: every place of a job that names an address, a secret or an endpoint."""

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tunesmith_api.admin_policy import admin_policy
from tunesmith_api.field_paths import paths_of
from tunesmith_api.finetunejob.spec import FineTuneJobSpec

PAGE = Path(__file__).parents[3] / "docs" / "concept" / "security.md"


def parts(kind: str) -> list[dict[str, Any]]:
    return [each for each in admin_policy() if each["kind"] == kind]


def variables() -> dict[str, str]:
    (job, _) = parts("ValidatingAdmissionPolicy")
    return {each["name"]: each["expression"] for each in job["spec"]["variables"]}


@pytest.mark.parametrize("field", ["uri", "url", "trackingUri", "secretRef"])
def test_no_address_and_no_secret_of_a_job_is_out_of_a_policys_sight(field: str) -> None:
    seen = " ".join(variables().values())
    places = set(paths_of(FineTuneJobSpec, field))

    assert places
    for place in places:
        holder = place.rpartition(".")[0] if field != "secretRef" else place
        names = holder.split(".")
        # Behind a list what is left is asked of its items.
        whole = r"\.\?".join(names)
        cut = [r"\.\?".join(names[:at]) + r"\.orValue\(\[\]\).*s\.\?" + r"\.\?".join(names[at:])
               for at in range(1, len(names))]  # fmt: skip
        last = r"\.\?".join(names) + r"\.orValue\(\[\]\)"
        assert any(re.search(pattern, seen) for pattern in (whole, last, *cut)), place


def test_the_example_of_the_docs_is_one_and_names_every_field() -> None:
    (block,) = re.findall(
        r"```yaml\n(apiVersion[^`]*kind: FineTunePolicy[^`]*)```", PAGE.read_text()
    )
    (definition,) = parts("CustomResourceDefinition")
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    shown = yaml.safe_load(block)

    jsonschema.validate(shown, schema)
    assert set(shown["spec"]) == set(schema["properties"]["spec"]["properties"])


def test_every_policy_is_bound_and_of_no_policy_everything_is_allowed() -> None:
    policies = [each["metadata"]["name"] for each in parts("ValidatingAdmissionPolicy")]
    bindings = [each["spec"] for each in parts("ValidatingAdmissionPolicyBinding")]

    assert [each["policyName"] for each in bindings] == policies
    assert all(each["validationActions"] == ["Deny"] for each in bindings)
    assert all(each["paramRef"]["parameterNotFoundAction"] == "Allow" for each in bindings)

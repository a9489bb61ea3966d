"""What is made of the API server's refusals."""

import json

import pytest
from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.kube.api_errors import (
    is_invalid,
    is_namespace_terminating,
    is_outage,
    is_refusal,
    refusal_message,
)

NO_RIGHT = (
    'jobs.batch is forbidden: User "system:serviceaccount:t:tunesmith" cannot create resource '
    '"jobs" in API group "batch" in the namespace "team-a"'
)
QUOTA = (
    'jobs.batch "x" is forbidden: exceeded quota: small, requested: count/jobs.batch=1, '
    "used: count/jobs.batch=9, limited: count/jobs.batch=9"
)


def refused(message: str, *, cause: str = "") -> ApiException:
    """A refusal as the client raises it."""
    causes = [{"reason": cause}] if cause else []
    answer = {"kind": "Status", "message": message, "details": {"causes": causes}, "code": 403}
    return ApiException(status=403, reason=f"POST /apis/batch/v1/jobs: {json.dumps(answer)}")


def test_a_missing_right_is_named_with_its_group_and_the_next_step() -> None:
    assert refusal_message(refused(NO_RIGHT), subject="this job") == (
        "the operator may not create jobs.batch here; "
        "give it that right again: the roles and bindings of its chart have it"
    )


def test_a_right_of_the_core_group_has_no_group() -> None:
    core = 'cannot list resource "pods" in API group "" in the namespace "x"'

    assert refusal_message(refused(core), subject="this job").startswith(
        "the operator may not list pods here"
    )


def test_a_quota_or_policy_is_quoted() -> None:
    assert "exceeded quota: small" in refusal_message(refused(QUOTA), subject="this job")


@pytest.mark.parametrize("reason", ["POST /x: {no json", "POST /x: [1]", "", None])
def test_an_answer_that_is_none_is_quoted_as_it_is(reason: str | None) -> None:
    error = ApiException(status=403, reason=reason)

    assert refusal_message(error, subject="this job")
    assert not is_namespace_terminating(error)


def test_a_namespace_that_goes_away_is_told_from_a_missing_right() -> None:
    assert is_namespace_terminating(refused("being terminated", cause="NamespaceTerminating"))
    assert not is_namespace_terminating(refused(NO_RIGHT))


def test_a_kuberay_without_the_field_that_asks_for_tokens_is_told_with_its_remedy() -> None:
    said = 'strict decoding error: unknown field "spec.rayClusterSpec.authOptions"'
    answer = json.dumps({"kind": "Status", "message": said, "code": 400})
    error = ApiException(status=400, reason=f"POST /apis/ray.io/v1/namespaces/a/rayjobs: {answer}")

    assert is_invalid(error)
    message = refusal_message(error, subject="this job")
    assert "KubeRay have no spec.rayClusterSpec.authOptions" in message
    assert "upgrade KubeRay to 1.5.1" in message


def test_a_field_that_other_definitions_lack_is_named() -> None:
    answer = json.dumps({"message": 'strict decoding error: unknown field "spec.new"'})
    error = ApiException(status=400, reason=f"PATCH /apis/keda.sh/v1alpha1/x: {answer}")

    assert "does not know the field spec.new" in refusal_message(error, subject="this deployment")


def test_a_server_whose_policies_are_not_ready_is_waited_for_and_blames_nobody() -> None:
    said = "failed to configure policy: failed to find resource referenced by paramKind: 'a/v1'"
    answer = json.dumps({"message": f"'limits' denied request: {said}", "reason": "Invalid"})
    error = ApiException(status=422, reason=f"POST /apis/batch/v1/jobs: {answer}")

    assert is_outage(error)
    assert not is_invalid(error)
    assert not is_refusal(error)

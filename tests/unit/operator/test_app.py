"""What is registered can work: its kind is one of the API's, and the operator may read it."""

import pytest

from tunesmith_api.base import GROUP, VERSION
from tunesmith_api.kinds import KINDS
from tunesmith_operator.app import CONTROLLERS
from tunesmith_operator.kube.resources import Resource
from tunesmith_operator.permissions import PERMISSIONS


@pytest.mark.parametrize("resource", CONTROLLERS, ids=lambda resource: resource.kind)
def test_the_kind_of_a_controller_is_a_row_of_the_api(resource: Resource) -> None:
    """The row gives the definition, which is served below the same plural."""
    assert resource in [Resource(kind.name, GROUP, VERSION, kind.plural) for kind in KINDS]


@pytest.mark.parametrize("resource", CONTROLLERS, ids=lambda resource: resource.kind)
def test_the_operator_may_follow_the_objects_of_every_controller(resource: Resource) -> None:
    """Without the right kopf waits for one, and the controller hears of nothing."""
    granted = {
        verb
        for permission in PERMISSIONS
        if permission.scope == "jobs" and permission.group == resource.group
        if resource.plural in permission.resources
        for verb in permission.verbs
    }

    assert granted >= {"get", "list", "watch"}

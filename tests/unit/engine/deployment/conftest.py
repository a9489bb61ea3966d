"""A deployment that serves already."""

from collections.abc import Callable
from typing import Any

import pytest

from deployment_world import World, a_spec, a_version

Serving = Callable[..., World]


@pytest.fixture
def serving() -> Serving:
    """Builds a world in which v1 serves, whole and alone, under a spec with the given fields."""

    def build(**spec: Any) -> World:
        world = World(spec=a_spec(**spec), versions=[a_version("v1")])
        world.run()
        return world

    return build

"""`advance`: one step of a deployment, pure and total; nothing else decides.

It is level-triggered, as a job's: from what is stored and what is seen, never from what has just
happened.
"""

from datetime import datetime

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.observations import Decision, Observations


def advance(
    spec: ModelDeploymentSpec,
    status: ModelDeploymentStatus | None,
    seen: Observations,
    *,
    generation: int,
    now: datetime,
) -> Decision:
    """The next status, all that has to be there, and when to look again at the latest.

    `now` has a time zone.
    """
    raise NotImplementedError

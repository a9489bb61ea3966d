"""`spec.monitoring`: what is watched beside the SLO, and what follows from what is seen.

Two things may drift: the artifact, when replicas answer otherwise than the version that was judged,
and the traffic, when requests are no longer like the data that the version was trained on.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import ClusterOnly, DecidedLater
from tunesmith_api.field_types import DnsLabel, Fraction, Positive
from tunesmith_api.rules import Rule

TrafficAction = Literal["alert", "holdRollout", "retrain"]
ArtifactAction = Literal["alert", "holdRollout", "rollback"]


class OnDrift(ApiModel):
    """What follows. Conditions tell of a drift in any case."""

    traffic: Annotated[list[TrafficAction], Field(max_length=3)] = Field(
        ["alert"],
        description="alert: an Event, and the metrics that alerts go by. holdRollout: a rollout "
        "that was under way stays at its step. retrain: the next job is made, see `retrain`.",
    )
    artifact: Annotated[list[ArtifactAction], Field(max_length=3)] = Field(
        ["alert"],
        description="alert and holdRollout as above. rollback: the version before takes over once "
        "no replica answers rightly any more, unless `version` is given.",
    )


class Retrain(ApiModel):
    """The FineTuneJob that is made when the traffic has drifted; each version has one at most."""

    job_name: DnsLabel = Field(
        description="FineTuneJob of the namespace whose spec is copied, without its "
        "`output.version`. Keep it, and have its dataset grow."
    )
    min_interval_seconds: Positive = Field(
        86_400, description="Seconds between two such jobs at least."
    )
    max_runs: Annotated[int, Field(ge=1, le=1000)] = Field(
        10, description="Jobs that are made ever; raise it to go on."
    )


class Monitoring(ApiModel):
    """How what is served is watched."""

    enabled: bool = Field(
        True,
        description="false: nothing is concluded from drift, and no burn rates or costs are "
        "counted. Replicas that answer wrongly get no requests all the same.",
    )
    probe_interval_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        15,
        description="Seconds between two fingerprints that a replica asks its engine for, one in "
        "turn, at least. Replicas that start later go by it.",
    )
    max_probe_interval_seconds: Annotated[int, Field(ge=1, le=3600)] = Field(
        120,
        description="Seconds between two of them at most, however little is served. Not above "
        "`probeIntervalSeconds`, the pace is fixed.",
    )
    probe_token_fraction: Fraction = Field(
        0.001,
        description="Between these two a fingerprint waits until the last one was this part of "
        "the tokens that were computed for clients since: of prompts, but for what the prefix "
        "cache has, and of answers.",
    )
    on_drift: OnDrift = OnDrift()
    retrain: Annotated[Retrain | None, DecidedLater("none is made"), ClusterOnly()] = Field(
        None, description="The job to train anew with. Default: none is made."
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="retrain-needs-a-job",
        scopes=("monitoring",),
        field="retrain",
        holds=lambda monitoring: (
            monitoring.retrain is not None or "retrain" not in monitoring.on_drift.traffic
        ),
        cel="has(self.retrain) || !('retrain' in self.onDrift.traffic)",
        message="onDrift.traffic asks for retrain; say with retrain.jobName which job to copy",
    ),
)

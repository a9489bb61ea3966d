"""`status.monitoring`: drift of traffic and artifact, burn rates and cost, as they were last told.

Numbers and names alone, written at most once a minute unless something flips.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.conditions import Message, Name
from tunesmith_api.field_types import DnsLabel, VersionLabel

MAX_SIGNALS: Final = 8
MAX_RETRAININGS: Final = 20
MAX_SUITES: Final = 16
Count = Annotated[int, Field(ge=0)]
SloName = Literal["availability", "ttft", "itl"]
Amount = Annotated[float, Field(ge=0)]


class SignalDrift(ApiModel):
    """One signal against the reference."""

    signal: Name
    log_e: float = Field(description="Natural logarithm of the evidence that it has drifted.")
    effect: Annotated[float, Field(ge=0, le=1)] = Field(
        description="How far it is from the reference: 0 not at all, 1 altogether."
    )


class TrafficStatus(ApiModel):
    """The requests of the stable version against the data that it was trained on."""

    version: VersionLabel
    since: datetime | None = Field(None, description="When counting began.")
    requests: Count = 0
    threshold_log_e: float | None = Field(
        None, description="Evidence from which on the detector calls it drift."
    )
    signals: Annotated[list[SignalDrift], Field(max_length=MAX_SIGNALS)] = Field(
        default_factory=list, description="Those with the most evidence."
    )
    drifted: Annotated[list[Name], Field(max_length=64)] = Field(
        default_factory=list, description="Signals past the threshold."
    )
    drifted_since: datetime | None = Field(
        None, description="When the first of them was seen past it."
    )
    reason: Name = Field("", description="Why nothing can be said: NoReference, NoTraffic.")


class BiasStatus(ApiModel):
    """The pairs of one fairness suite, asked of the stable replicas again, in nats a token."""

    suite: Name
    pairs: Count = Field(description="Of which both sides were asked.")
    released_nats: float = Field(description="Mean gap of these pairs when they were published.")
    nats: float = Field(description="Mean gap now.")
    growth_nats: float = Field(description="How much farther from no gap it is.")
    low_nats: float = Field(description="Lower end of the growth's interval of 99 %.")
    high_nats: float = Field(description="Its upper end.")
    grown: bool = False


class ArtifactStatus(ApiModel):
    """The answers of the stable replicas against the fingerprints of their version."""

    version: VersionLabel
    mismatch: bool = False
    since: datetime | None = Field(None, description="Since when they do not match.")
    replica: Name | None = Field(None, description="The one that differs most.")
    mismatched_replicas: Count = 0
    worst_nats: Amount | None = Field(
        None, description="Mean difference of log-probabilities in the worst prompt."
    )
    mean_nats: Amount | None = None
    loss_nats: float | None = Field(
        None,
        description="By how much known answers have become less likely since the publication, nats "
        "a token: above 0 the model answers worse.",
    )
    probes: Count = Field(0, description="Questions that the present replicas were asked.")
    bias: Annotated[list[BiasStatus], Field(max_length=MAX_SUITES)] = Field(
        default_factory=list,
        description="Of each fairness suite of pairs, the replica whose gap has grown most.",
    )
    at: datetime | None = Field(None, description="When the last answer came.")
    message: Message = ""


class SloStatus(ApiModel):
    """One promise: how quickly its error budget of 30 days goes, and what is left of it."""

    name: SloName
    objective: Annotated[float, Field(ge=0, le=1)]
    burn_rate: Amount | None = Field(
        None, description="Of the last hour; 1 uses the budget up in 30 days. None: no requests."
    )
    budget_remaining: float | None = Field(
        None, description="Share of the budget that is left; below 0 the promise is broken."
    )
    burning: bool = False


class CostStatus(ApiModel):
    """What serving costs, in the currency of the price; rates are of the last hour."""

    price_per_accelerator_hour: Amount | None = None
    accelerator_hours: Amount = Field(0.0, description="Held by replicas in the last 30 days.")
    per_million_tokens: Amount | None = Field(None, description="Tokens read and written.")
    per_request: Amount | None = Field(None, description="Requests that were answered whole.")
    message: Message = Field("", description="Why a cost is unknown.")


class Retraining(ApiModel):
    """A job that was made, or is about to be, since the traffic of a version had drifted."""

    job: DnsLabel
    version: VersionLabel = Field(description="Whose traffic it was.")
    time: datetime
    state: Literal["Pending", "Created"] = "Pending"
    message: Message = ""


class MonitoringStatus(ApiModel):
    """What was seen of the version that serves."""

    time: datetime | None = Field(None, description="When the numbers were written last.")
    traffic: TrafficStatus | None = None
    artifact: ArtifactStatus | None = None
    slos: Annotated[list[SloStatus], Field(max_length=8)] = Field(default_factory=list)
    cost: CostStatus | None = None
    retrainings: Annotated[list[Retraining], Field(max_length=MAX_RETRAININGS)] = Field(
        default_factory=list, description="The last ones, the newest last."
    )
    num_retrainings: Count = Field(0, description="Jobs that were ever made.")

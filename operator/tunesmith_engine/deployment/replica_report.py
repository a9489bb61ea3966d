"""What a replica says of itself at /tunesmith/state: the words, and the record of whoever asks.

The server (`tunesmith_serving/replica/`) says them; the executors on a laptop and in a cluster read
them.
"""

from enum import StrEnum
from typing import Final

from pydantic import ConfigDict

from tunesmith_api.base import ApiModel
from tunesmith_engine.deployment.adapter_list import AdapterList


class ReadyReason(StrEnum):
    """Why a replica is ready, or is not."""

    READY = "Ready"
    STARTING = "Starting"
    DRAINING = "Draining"
    FINGERPRINT_MISMATCH = "FingerprintMismatch"
    FINGERPRINTS_UNREADABLE = "FingerprintsUnreadable"
    GENERATION_FAILED = "GenerationFailed"
    NO_PROGRESS = "NoProgress"
    ADAPTER_LOADING = "AdapterLoading"
    ADAPTER_REFUSED = "AdapterRefused"


# What neither waiting nor a restart mends: the engine does not answer as was published.
WRONG_ANSWERS: Final = frozenset(
    {
        ReadyReason.FINGERPRINT_MISMATCH,
        ReadyReason.FINGERPRINTS_UNREADABLE,
        ReadyReason.ADAPTER_REFUSED,
    }
)


# Pairs below which an interval says nothing.
ENOUGH_PAIRS: Final = 8
# Nats a token, of the interval's lower end: known answers may differ by as much between two sound
# engines. The alert TunesmithBiasGrown has the same.
NOTICEABLE_GROWTH: Final = 0.05


class BiasEvidence(ApiModel):
    """What the pairs of one fairness suite say of the engine, in nats a token.

    `nats` is the mean gap of the pairs now, and `released_nats` that of the same pairs when the
    version was verified; `growth_nats` is how much farther from none it is, with its interval.
    """

    model_config = ConfigDict(extra="ignore")

    suite: str
    pairs: int
    released_nats: float
    nats: float
    growth_nats: float
    low_nats: float
    high_nats: float

    @property
    def has_grown(self) -> bool:
        """Whether it is a growth that neither chance nor another sound engine makes."""
        return self.low_nats > NOTICEABLE_GROWTH


class ProbeEvidence(ApiModel):
    """How far the engine's answers are from the fingerprints: each prompt as it was asked last.

    `worst_nats` is the mean difference of the tokens of the worst prompt, `mean_nats` that of all
    tokens, and `loss_nats` by how much these have become less likely in the mean; None of a replica
    of an earlier release. `probes` are the prompts asked since the process started, `tokens` what
    they took, and `age_seconds` the time since the last answer.
    """

    model_config = ConfigDict(extra="ignore")

    probes: int
    tokens: int
    worst_nats: float
    mean_nats: float
    age_seconds: float
    loss_nats: float | None = None
    bias: tuple[BiasEvidence, ...] = ()


class ReplicaReport(ApiModel):
    """`/tunesmith/state`; fields and reasons of a later release are passed over."""

    model_config = ConfigDict(extra="ignore")

    revision: str
    instance: str
    ready: bool
    draining: bool
    reason: str
    message: str
    running: int
    accepted: int
    quiet_seconds: float
    uptime_seconds: float = 0.0
    probe: ProbeEvidence | None = None
    # Of a replica of a shared base: what it was told last, and how each of its adapters is.
    adapter_list: AdapterList | None = None
    adapters: tuple["ReplicaReport", ...] = ()

    def adapter(self, revision: str) -> "ReplicaReport | None":
        """What it says of the adapter of that revision; None while it knows none."""
        return next((told for told in self.adapters if told.revision == revision), None)

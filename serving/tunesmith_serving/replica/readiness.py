"""When a replica is ready: a state machine over what was seen, with no clock of its own.

Ready means that it generates correctly: the engine gave the version's fingerprints when it was
asked last, it makes progress with what is under way, and nobody drains it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from tunesmith_engine.deployment.replica_report import ProbeEvidence, ReadyReason
from tunesmith_serving.replica.bias_watch import WatchedBias
from tunesmith_serving.replica.fingerprints import Comparison
from tunesmith_serving.tap.probe_metrics import ProbedPrompt, mean_loss


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a replica is ready, and why; the message holds numbers only."""

    reason: ReadyReason
    message: str

    @property
    def is_ready(self) -> bool:
        """Whether requests may come."""
        return self.reason is ReadyReason.READY


STARTING = Verdict(ReadyReason.STARTING, "the engine has not been asked for its fingerprints yet")


@dataclass(slots=True)
class Heartbeat:
    """Whether the engine gets on; every `now` is seconds of one monotonic clock.

    `/health` of vLLM answers 200 while its scheduler stands still (vllm#39863). Tokens do not come
    then, while requests are under way.
    """

    num_running: int = 0
    last: float = float("-inf")
    busy_since: float = float("-inf")

    def begin(self, now: float) -> None:
        """A request has arrived."""
        if not self.num_running:
            # The silence of an idle engine says nothing.
            self.busy_since = now
        self.num_running += 1

    def end(self) -> None:
        """A request has ended, whichever way: whoever cancels one proves no progress."""
        self.num_running -= 1

    def beat(self, now: float) -> None:
        """The engine has made a token."""
        self.last = now

    def silence(self, now: float) -> float:
        """Seconds for which requests have been under way and no token was made."""
        return now - max(self.last, self.busy_since) if self.num_running else 0.0


# Within an engine an answer moves by what shares its batch: less than by as much again.
_OTHER: Final = 2.0


@dataclass(slots=True)
class Evidence:
    """What the answers to fingerprints have shown: of each prompt the last, by its place.

    `settled` is what this engine was off by, nats, when all of them were last found right.
    """

    num_probes: int = 0
    num_tokens: int = 0
    last: float = float("-inf")
    prompts: dict[int, ProbedPrompt] = field(default_factory=dict)
    settled: dict[int, float] = field(default_factory=dict)
    bias: WatchedBias = field(default_factory=WatchedBias)

    def settle(self) -> None:
        """All prompts were asked, and the engine is right."""
        self.settled = {place: prompt.difference for place, prompt in self.prompts.items()}

    def is_other(self, place: int, *, least: float) -> bool:
        """Whether a prompt was last answered as this engine did not when it was found right.

        `least`: nats that no engine is held to. It proves nothing, and is reason to ask for all.
        """
        if place not in self.prompts:
            return False
        allowed = max(_OTHER * self.settled.get(place, 0.0), least)
        return self.prompts[place].difference > allowed

    def note(self, prompts: Mapping[int, ProbedPrompt], *, tokens: int, now: float) -> None:
        """Prompts were answered, which took so many tokens."""
        self.num_probes += len(prompts)
        self.num_tokens += tokens
        self.last = now
        self.prompts |= prompts

    def shown(self, now: float) -> ProbeEvidence | None:
        """All of it; None before the first answer."""
        if not self.prompts:
            return None
        known = tuple(self.prompts.values())
        comparison = Comparison(tuple((each.difference, each.num_tokens) for each in known))
        return ProbeEvidence(
            probes=self.num_probes,
            tokens=self.num_tokens,
            worst_nats=round(comparison.worst, 4),
            mean_nats=round(comparison.mean, 4),
            loss_nats=round(mean_loss(known), 4),
            bias=tuple(self.bias.shown()),
            age_seconds=round(now - self.last, 3),
        )


@dataclass(slots=True)
class Readiness:
    """All that readiness depends on, and what it rests on."""

    progress_seconds: float
    heartbeat: Heartbeat
    proof: Verdict = STARTING
    evidence: Evidence = field(default_factory=Evidence)
    is_draining: bool = False

    def verdict(self, now: float) -> Verdict:
        """Whether the replica is ready."""
        if self.is_draining:
            return Verdict(
                ReadyReason.DRAINING, f"{self.heartbeat.num_running} requests are under way still"
            )
        silence = self.heartbeat.silence(now)
        if silence > self.progress_seconds:
            return Verdict(
                ReadyReason.NO_PROGRESS,
                f"{self.heartbeat.num_running} requests are under way and no token was made for "
                f"{silence:.0f} s (at most {self.progress_seconds:g}); restart the engine",
            )
        return self.proof

"""When a replica is ready: a state machine over what was seen, with no clock of its own.

Ready means that it generates correctly: the engine gave the version's fingerprints when it was
asked last, it makes progress with what is under way, and nobody drains it.
"""

from dataclasses import dataclass

from tunesmith_engine.deployment.replica_report import ReadyReason


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


@dataclass(slots=True)
class Readiness:
    """All that readiness depends on."""

    progress_seconds: float
    heartbeat: Heartbeat
    proof: Verdict = STARTING
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

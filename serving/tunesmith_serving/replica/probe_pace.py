"""When a replica asks its engine for the next fingerprint: a share of what clients had computed.

A probe is paid for afterwards. What it took, and whatever it had asked for to confirm it, has to be
the share of the tokens that were served since, before the next one is asked.
"""

from dataclasses import dataclass
from typing import Final

from tunesmith_engine.monitoring.exposition import series

_COMPUTED: Final = ("vllm:prompt_tokens_total", "vllm:generation_tokens_total")
# Part of the first: the prefix cache has answered them. NB: never for probes, see `question`.
_CACHED: Final = "vllm:prompt_tokens_cached_total"


@dataclass(frozen=True, slots=True)
class ProbePace:
    """Probes are `fraction` of the tokens, but for these bounds on the seconds between two."""

    shortest_seconds: float
    longest_seconds: float
    fraction: float

    def is_due(self, *, seconds: float, spent: float, served: float) -> bool:
        """Whether to ask, so many `seconds` after a probe that took `spent` tokens.

        `served` are the tokens that the engine has computed for clients since.
        """
        if seconds < self.shortest_seconds:
            return False
        return seconds >= self.longest_seconds or served * self.fraction >= spent

    def pause(self, *, seconds: float) -> float:
        """Seconds until it is worth another look, so many after the last probe."""
        # Timers may ring a little early.
        if seconds < self.shortest_seconds:
            return self.shortest_seconds - seconds
        return max(min(self.shortest_seconds, self.longest_seconds - seconds), 0.0)


def computed_tokens(metrics: str) -> float | None:
    """What an engine has computed since it was started, by its own metrics: read and written.

    None where it does not count.
    """
    counted = list(series(metrics, names=(*_COMPUTED, _CACHED)))
    if not counted:
        return None
    return sum(-value if name == _CACHED else value for name, _, value in counted)

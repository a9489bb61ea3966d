"""Where clients ask too little, a candidate and stable are compared on the version's own prompts.

The prompts are those of `fingerprints.json`, as token ids. Each is asked in turn, as long as no
client's request is compared meanwhile, and again from the beginning: nobody tells a replica when
its trial begins. The judge counts each prompt once.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from tunesmith_serving.replica.fingerprints import Fingerprint, read_fingerprints
from tunesmith_serving.replica.readiness import Readiness
from tunesmith_serving.replica.sample_ring import SampleRing
from tunesmith_serving.replica.settings import ReplicaSettings
from tunesmith_serving.replica.stable_answers import StableAnswers

LOGGER = logging.getLogger(__name__)
# After the first round the trial may be over, and stable has clients to answer.
_LATER_ROUNDS: Final = 12
# Stable may be gone for good, after a promotion.
_MOST_DOUBLINGS: Final = 9
_DIGEST_BYTES: Final = 8


@dataclass(frozen=True, slots=True)
class FixedSample:
    """One comparison on a fixed prompt, in the ring beside those of clients' requests."""

    arrived: float
    quality_loss: float
    prompt: str
    is_over: bool = True

    def fields(self, *, now: float) -> dict[str, Any]:  # noqa: ARG002 - as of every entry
        """The fields of a `rollout.samples.Sample` that it has."""
        return {"qualityLoss": self.quality_loss, "fixedPrompt": self.prompt}


class FixedPrompts:
    """Asks for as long as the process runs."""

    def __init__(
        self,
        settings: ReplicaSettings,
        *,
        stable: StableAnswers,
        readiness: Readiness,
        ring: SampleRing,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._stable = stable
        self._readiness = readiness
        self._ring = ring
        self._clock = clock
        self._num_asked = 0
        self._num_failures = 0
        self._is_later_round = False

    async def run(self) -> None:
        """Ask until cancelled."""
        while True:
            num_compared = self._stable.num_compared
            await asyncio.sleep(self._pause_s())
            is_serving = self._readiness.proof.is_ready and not self._readiness.is_draining
            if is_serving and self._stable.num_compared == num_compared:
                await self.ask()

    async def ask(self) -> None:
        """Compare on the next prompt."""
        try:
            known = read_fingerprints(
                self._settings.fingerprints, max_model_length=self._settings.max_model_length
            )
        except (OSError, ValueError) as error:
            LOGGER.debug("no fixed prompts: %s", type(error).__name__)
            self._num_failures += 1
            return
        probe = known[self._num_asked % len(known)]
        arrived = self._clock()
        loss = await self._stable.loss_of_prompt(probe.prompt_ids)
        if loss is None:
            self._num_failures += 1
            return
        self._num_failures = 0
        self._num_asked += 1
        self._is_later_round = self._num_asked >= len(known)
        self._ring.add(FixedSample(arrived, loss, digest_of(probe)))

    def _pause_s(self) -> float:
        rounds = _LATER_ROUNDS if self._is_later_round else 1
        return (
            self._settings.compare_seconds * rounds * 2 ** min(self._num_failures, _MOST_DOUBLINGS)
        )


def digest_of(probe: Fingerprint) -> str:
    """The name of a prompt to the judge, the same on every replica."""
    text = ",".join(map(str, probe.prompt_ids)).encode()
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).hexdigest()

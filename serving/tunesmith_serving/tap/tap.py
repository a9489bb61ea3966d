"""The tap: measures requests that are over, for whoever looks for drift.

It fails open: what cannot be measured is dropped and counted, and the request knows nothing of it.
"""

import logging
from collections.abc import Callable
from typing import Any

from tunesmith_serving.replica.measurement import Measurement
from tunesmith_serving.tap.block_ring import BlockRing
from tunesmith_serving.tap.metrics import ReplicaMetrics
from tunesmith_serving.tap.tapped_request import TappedRequest

LOGGER = logging.getLogger(__name__)


class Tap:
    """Blocks of what was measured; `clock` is monotonic, in seconds."""

    def __init__(self, *, metrics: ReplicaMetrics, clock: Callable[[], float]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._ring = BlockRing()

    def add(self, tapped: TappedRequest, measurement: Measurement) -> None:
        """Count a request that is over."""
        # Whatever was refused or broke down was no traffic of the model.
        if measurement.outcome not in {"complete", "cancelled", "incomplete"}:
            return
        problem = "unreadableAnswer" if measurement.is_blind else tapped.problem
        if problem is not None:
            self._metrics.count_dropped(problem)
        try:
            bins = tapped.bins(
                prompt_tokens=measurement.num_prompt_tokens,
                output_tokens=measurement.tokens_of_answer,
                is_whole=measurement.outcome == "complete",
            )
            if bins:
                self._ring.add(bins, now=self._clock())
        except Exception as error:  # noqa: BLE001 - measuring never breaks a request
            # NB: not its message, which may quote the text.
            LOGGER.debug("a request cannot be measured: %s", type(error).__name__)
            self._metrics.count_dropped("fault")

    def page(self, *, after: int) -> dict[str, Any]:
        """The blocks behind the place `after`."""
        page = self._ring.after(after, now=self._clock())
        return {"next": page.next, "dropped": page.dropped, "blocks": page.blocks}

"""What one look at a job comes to: what was decided, and how it is to be carried out.

Pure: the reconciler reads, asks `advance`, and then goes by this record.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zlib import crc32

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.lifecycle.accounting import without_usage
from tunesmith_engine.lifecycle.observations import Decision, Start, Stop
from tunesmith_engine.lifecycle.rejections import is_forbidden
from tunesmith_operator.kube.objects import Manifest

# Seconds between two writes that tell of nothing but progress: each takes 10 ms of the server.
PROGRESS_S: Final = 15.0
RESYNC_S: Final = 300.0
# What has gone shows in no list, so a watch that is made anew does not tell of it.
STOPPING_S: Final = 10.0

# Seconds after which a job is looked at once more that has got another status: one step may make
# the next one possible. Of what a step has made there will be news; of what was there already, not.
AGAIN_S: Final = 1.0
# A time to wake at that is past, by the clock of another machine, must not become a busy loop.
_SHORTEST_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Step:
    """The decision of one look at `now`: from the status `before` to that of the decision."""

    job: Manifest
    before: FineTuneJobStatus | None
    decision: Decision
    now: datetime

    @property
    def hold_s(self) -> float:
        """Seconds until news of progress, or other words for the same reasons, may be written."""
        before, after = self.before, self.decision.status
        if before is None or before.progress is None or before == after:
            return 0.0
        if _without_words(before) != _without_words(after):
            return 0.0
        age = (self.now - before.progress.last_update_time).total_seconds()
        return max(0.0, PROGRESS_S - age)

    @property
    def writes_status(self) -> bool:
        return self.decision.status != self.before and not self.hold_s

    @property
    def is_retry(self) -> bool:
        """Whether all there is to do is what the API server refused before.

        Its status is written afterwards: nothing is said until it works.
        """
        before, after = self.before, self.decision.status
        return before is not None and is_forbidden(before) and before.stages == after.stages

    @property
    def needs_confirmation(self) -> bool:
        """Whether it has to be seen first that the job is still the one that was looked at.

        A write of the new status proves that, and where none comes before the actions, of what is
        stored already: a start that is repeated would else be made from a version that is past, and
        what the past did not know of is no stray to be stopped.
        """
        if self.before is None or (self.writes_status and not self.is_retry):
            return False
        actions = self.decision.actions
        return any(isinstance(a, Start) or a.because == "Superseded" for a in actions)

    def requeue_after_s(self, *, has_created: bool) -> float | None:
        """Seconds after which to look again, whatever is heard; None if nothing can come any more.

        `has_created` says that the step has made a child, of which there will be news.
        """
        decision, uid = self.decision, self.job["metadata"]["uid"]
        after_s = []
        if any(isinstance(action, Stop) for action in decision.actions):
            after_s.append(STOPPING_S)
        if decision.actions or not decision.status.is_finished:
            after_s.append(resync_s(uid))
        if decision.wake_at is not None:
            after_s.append(max(_SHORTEST_S, (decision.wake_at - self.now).total_seconds()))
        if self.writes_status and not has_created:
            after_s.append(AGAIN_S)
        if self.hold_s:
            after_s.append(self.hold_s)
        return min(after_s, default=None)


def resync_s(uid: str) -> float:
    """Seconds after which a job that is not over is looked at although nothing was heard of it.

    What watches have missed is so noticed, of all jobs spread over a time.
    """
    # By the uid, so that a restart of the operator, which looks at all at once, spreads them anew.
    spread = crc32(uid.encode()) % 1000 / 1000
    return RESYNC_S * (0.8 + 0.4 * spread)


def _without_words(status: FineTuneJobStatus) -> FineTuneJobStatus:
    conditions = [condition.model_copy(update={"message": ""}) for condition in status.conditions]
    stages = [stage.model_copy(update={"message": ""}) for stage in status.stages]
    update = {"progress": None, "conditions": conditions, "stages": stages}
    return without_usage(status).model_copy(update=update)

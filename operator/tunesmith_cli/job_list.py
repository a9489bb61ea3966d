"""Jobs as a list: what terminal, page and kubectl's plugin say of each."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import JsonValue

from tunesmith_api.finetunejob.status import FineTuneJobStatus, Phase
from tunesmith_api.results import EvaluationResult
from tunesmith_cli.formats import age, number
from tunesmith_cli.metrics import latest_in_order
from tunesmith_cli.terminal.stages import phase_of
from tunesmith_cli.terminal.style import table
from tunesmith_engine.local.home_folder import HomeFolder

# A score is compared by what people lose or gain with it: the model that ships, if there is one.
_SPLITS: Final = ("compressed", "tuned")


@dataclass(frozen=True, slots=True)
class NamedStatus:
    """A job's name with its status, and whether a run of it is going on."""

    name: str
    status: FineTuneJobStatus
    is_running: bool

    @property
    def note(self) -> str:
        """What to add to the phase where it is only what a killed run has left behind."""
        # A run that is killed leaves no last word in status.json; its lock tells that it is over.
        is_at_rest = self.status.is_finished or self.status.phase == Phase.SUSPENDED
        return "" if self.is_running or is_at_rest else " (no run is going on)"

    @property
    def loss(self) -> float | None:
        """Held-out loss of the tuned model."""
        return held_out_loss(self.status.evaluation, splits=("tuned",))


def held_out_loss(
    results: Iterable[EvaluationResult], *, splits: tuple[str, ...] = _SPLITS
) -> float | None:
    """The held-out loss of the first of these splits that was measured."""
    losses = {
        result.split: result.value
        for result in latest_in_order(results)
        if (result.suite, result.metric) == ("heldOut", "loss")
    }
    return next((losses[split] for split in splits if split in losses), None)


def stored_jobs(home: HomeFolder) -> list[NamedStatus]:
    """The jobs of a home folder, the newest first."""
    jobs = [
        NamedStatus(name, status, is_running=home.is_running(name))
        for name in home.list_jobs()
        # A status that cannot be read is named in a warning; the other jobs are still listed.
        if (status := home.read_status(name)) is not None
    ]
    never = datetime.min.replace(tzinfo=UTC)
    return sorted(jobs, key=lambda job: job.status.start_time or never, reverse=True)


def told_jobs(objects: Iterable[Mapping[str, Any]]) -> Iterator[NamedStatus]:
    """FineTuneJobs as an API server has them; an operator looks after all that are not at rest."""
    for told in objects:
        status = FineTuneJobStatus.model_validate(told.get("status") or {})
        if status.start_time is None:
            # A job that waits for its turn has an age, too.
            made = told["metadata"].get("creationTimestamp")
            status = status.model_copy(
                update={"start_time": datetime.fromisoformat(made) if made else None}
            )
        yield NamedStatus(told["metadata"]["name"], status, is_running=True)


def status_as_json(job: NamedStatus) -> dict[str, JsonValue]:
    """The whole status, with the job's name."""
    status = job.status.model_dump(mode="json", by_alias=True)
    return {"job": job.name, "running": job.is_running, **status}


def jobs_as_text(jobs: Iterable[NamedStatus], *, now: datetime) -> str:
    """One line for each job."""
    rows = [("job", "phase", "progress", "held-out loss", "version", "age")]
    for job in jobs:
        progress, started = job.status.progress, job.status.start_time
        percent = progress.percent if progress else None
        rows.append(
            (
                job.name,
                f"{phase_of(job.status)}{job.note}",
                "" if percent is None else f"{percent:.0f} %",
                "" if job.loss is None else number(job.loss),
                job.status.model_version or "",
                age((now - started).total_seconds()) if started else "",
            )
        )
    return table(rows)

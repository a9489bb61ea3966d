"""The jobs of a home folder as the commands need them: found by name, or refused."""

from dataclasses import dataclass
from pathlib import Path

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_api.reasons import Reason
from tunesmith_api.validation_errors import near_match
from tunesmith_cli.refusal import Refusal
from tunesmith_engine.local.home import Home


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job that was run here at least once."""

    name: str
    home: Home
    status: FineTuneJobStatus

    @property
    def folder(self) -> Path:
        return self.home.job(self.name)


def find_job(name: str, *, home: Path) -> KnownJob:
    """The job called `name`.

    Raises:
        Refusal: no job of that name was run in this home folder.
    """
    shelf = Home(home)
    status = shelf.read_status(name) if name in shelf.list_jobs() else None
    if status is None:
        raise Refusal(_unknown(name, shelf), reason=Reason.INVALID_SPEC)
    return KnownJob(name=name, home=shelf, status=status)


def _unknown(name: str, home: Home) -> str:
    known = home.list_jobs()
    near = near_match(name, known)
    if near:
        hint = f"did you mean '{near}'?"
    elif known:
        hint = f"known: {', '.join(known)}"
    else:
        hint = "no job was run there; give --home, or run one"
    return f"no job '{name}' in {home.root}; {hint}"

"""The home folder: where everything of every job lies. Runs write it, commands read it.

    jobs/NAME/manifest.yaml status.json report.html lock
    jobs/NAME/stages/STAGE/KEY/result.json artifacts/
    jobs/NAME/stages/STAGE/KEY/attempts/N/request.json progress.json result.json
                                          log.txt process.json
    deployments/NAME/   (`deployment/deployment_folder.py`)
    cache/   secrets/NAME/KEY   models/MODEL/VERSION/

KEY is the first 16 digits of a stage's key, N counts from 1. A stage writes `result.json` of its
attempt; `executor.py` copies one that counts up to KEY, where it holds for later runs.
"""

import logging
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.local.locks import is_locked
from tunesmith_engine.local.results import valid_result
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)
_KEY_DIGITS: Final = 16
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class AttemptFolder:
    """The files of one attempt."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def request(self) -> Path:
        return self.path / "request.json"

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def progress(self) -> Path:
        return self.path / "progress.json"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def process(self) -> Path:
        return self.path / "process.json"


@dataclass(frozen=True, slots=True)
class StageFolder:
    """What is kept of one stage with one key."""

    path: Path

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def artifacts(self) -> Path:
        return self.path / "artifacts"

    def attempt(self, number: int) -> AttemptFolder:
        return AttemptFolder(self.path / "attempts" / str(number))

    def discard(self) -> None:
        """Throw away what was made, so that the stage begins anew; logs of attempts stay."""
        # NB: results first, since they make the rest count. Attempts keep their folders: no number
        # is used twice.
        for result in (self.result, *(attempt.result for attempt in self.attempts())):
            result.unlink(missing_ok=True)
        shutil.rmtree(self.artifacts, ignore_errors=True)

    def attempts(self) -> list[AttemptFolder]:
        """The attempts that have a folder, the first one first."""
        paths = (self.path / "attempts").glob("[0-9]*")
        folders = [AttemptFolder(path) for path in paths if path.name.isdecimal()]
        # By number: as text, attempt 10 would come before attempt 2.
        return sorted(folders, key=lambda folder: folder.number)


@dataclass(frozen=True, slots=True)
class HomeFolder:
    """A home folder; nothing is made until it is written to."""

    root: Path

    def make(self) -> None:
        """Make the folder, for its owner alone: rows, answers, logs and secrets lie in it.

        One that is there stays as it is; somebody may share it on purpose.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def cache(self) -> Path:
        return self.root / "cache"

    @property
    def secrets(self) -> Path:
        return self.root / "secrets"

    @property
    def models(self) -> Path:
        return self.root / "models"

    def job(self, name: str) -> Path:
        """The folder of a job.

        Raises:
            ValueError: it is no name of a job, and might lead elsewhere.
        """
        return self.root / "jobs" / _checked(name, what="job")

    def deployment(self, name: str) -> Path:
        """The folder of a deployment.

        Raises:
            ValueError: it is no name of a deployment, and might lead elsewhere.
        """
        return self.root / "deployments" / _checked(name, what="deployment")

    def list_deployments(self) -> list[str]:
        """The names of all deployments that were ever started here, in order."""
        return sorted(path.parent.name for path in self.root.glob("deployments/*/manifest.yaml"))

    def manifest(self, name: str) -> Path:
        return self.job(name) / "manifest.yaml"

    def lock(self, name: str) -> Path:
        return self.job(name) / "lock"

    def stage(self, name: str, *, stage: str, key: str) -> StageFolder:
        """The folder of a stage; `key` may be longer than what names it."""
        stages = self.job(name) / "stages"
        short_key = _checked(key[:_KEY_DIGITS], what="key")
        return StageFolder(stages / _checked(stage, what="stage") / short_key)

    def list_jobs(self) -> list[str]:
        """The names of all jobs with a status, in order."""
        return sorted(path.parent.name for path in self.root.glob("jobs/*/status.json"))

    def read_status(self, name: str) -> FineTuneJobStatus | None:
        """The status as it was stored last; None if there is none that can be read."""
        path = self.job(name) / "status.json"
        try:
            return FineTuneJobStatus.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            # Of another release, or torn. What is done is found by its results all the same.
            _LOG.warning("%s is no status and is passed over: %s", path, error)
            return None

    def write_status(self, name: str, status: FineTuneJobStatus) -> None:
        """Replace the status; readers see the old one or the new one."""
        text = status.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(self.job(name) / "status.json", text)

    def is_running(self, name: str) -> bool:
        """Whether a run of the job goes on now."""
        return is_locked(self.lock(name))

    def result(self, name: str, *, stage: str, key: str) -> StageResult | None:
        """The result of a finished stage, if its artifacts are still there."""
        folder = self.stage(name, stage=stage, key=key)
        return valid_result(folder.result, stage=stage, key=key)

    def log(self, name: str, *, stage: str, attempt: int) -> Path:
        """The log of an attempt of the key that the job has now; it may not exist."""
        status = self.read_status(name)
        for known in status.stages if status else []:
            if known.name == stage:
                return self.stage(name, stage=stage, key=known.key).attempt(attempt).log
        return self.job(name) / "stages" / _checked(stage, what="stage") / "log.txt"

    def versions(self, model: str) -> list[Path]:
        """The folders of a model's published versions in this home, the newest first."""
        # The manifest is written last: a folder without one is no published version.
        manifests = (self.models / _checked(model, what="model")).glob("*/manifest.json")
        newest_first = sorted(manifests, key=lambda path: path.stat().st_mtime, reverse=True)
        return [path.parent for path in newest_first]


def _checked(name: str, *, what: str) -> str:
    # NB: names come from manifests and the command line, and become parts of paths.
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"'{name}' is no name of a {what}: use lower-case letters, digits and dashes"
        )
    return name

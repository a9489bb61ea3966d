"""What a search leaves of its trials: `trials.json`, which its facts and later searches read.

The stage writes a record when a trial begins and again when it ends; one that has not ended was
killed, and is run again under its number.
"""

import logging
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)

# The artifact, and its file.
TRIALS: Final = "trials"
TRIALS_FILE: Final = "trials.json"
# NB: raise it when an older release could no longer read the file.
FORMAT: Final = 1

ParameterValue = bool | int | float | str


TrialState = Literal["running", "completed", "pruned", "failed"]


class TrialOrigin(ApiModel):
    """Who proposed the settings; `source_job` is the earlier job whose settings were enqueued."""

    kind: Literal["sampler", "memory"] = "sampler"
    source_job: str | None = None


class Intermediate(ApiModel):
    """The objective of a run on its way: its lowest held-out loss after so many tokens."""

    tokens: int
    step: int
    value: float


class TrialRecord(ApiModel):
    """One trial.

    `parameters` are by field path below `spec`; those whose condition did not hold are left out.
    `objectives` are by metric (`ObjectiveName`), of completed and, as far as it came, of pruned
    trials; `general_loss_rise` is by how many nats the general loss lies above the base's then;
    `part_losses` are the loss of each part of the rows that choose, where the search has
    use for it. `reason` tells why one failed or was ended. `seconds` and `tokens` are of training.
    """

    number: int
    parameters: dict[str, ParameterValue]
    state: TrialState
    reason: str = ""
    objectives: dict[str, float] = Field(default_factory=dict)
    general_loss_rise: float | None = None
    part_losses: list[float] = Field(default_factory=list)
    intermediates: list[Intermediate] = Field(default_factory=list)
    best_step: int | None = None
    num_steps: int = 0
    seconds: float = 0.0
    tokens: int = 0
    seed: int = 0
    origin: TrialOrigin = TrialOrigin()

    @property
    def has_ended(self) -> bool:
        """Whether it is never run again."""
        return self.state != "running"


class TrialsFile(ApiModel):
    """All trials of a search, by number."""

    format: Literal[1] = FORMAT
    trials: list[TrialRecord] = Field(default_factory=list)

    def write(self, path: Path) -> None:
        """Replace the file at once, so that a killed search never leaves half of one."""
        write_atomically(path, self.model_dump_json(by_alias=True, indent=1))

    @classmethod
    def read(cls, path: Path) -> "TrialsFile":
        """The trials so far; none where there is no file.

        Raises:
            pydantic.ValidationError: it is of another release, or no such file.
        """
        return cls.model_validate_json(path.read_bytes()) if path.exists() else cls()


def trials_of(result: StageResult | None) -> list[TrialRecord]:
    """The trials that a search has left on this machine; none where it is none of ours."""
    for artifact in result.artifacts if result else ():
        if artifact.name == TRIALS and artifact.uri.startswith("file://"):
            try:
                return TrialsFile.read(local_path(artifact)).trials
            except ValidationError as error:
                _LOG.warning("%s holds no trials of this release: %s", artifact.uri, error)
    return []

"""What `plan` hands to `advance` and to executors: the stages of a job, each with its key."""

from dataclasses import dataclass

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import Environment, StageName


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One stage: where it runs, and the digest of everything that its outcome depends on.

    `key` is 64 hexadecimal digits; `module` is what `python -m` starts in the environment.
    """

    name: StageName
    environment: Environment
    module: str
    key: str

    @property
    def short_key(self) -> str:
        """The part of the key that names folders and is shown to people."""
        return self.key[:16]


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as it will be run: `stages` in order, ending with the last one asked for.

    `spec` has every default filled in that does not depend on the data; those that do stay None
    and are decided by the stage that sees the data.
    """

    job: str
    generation: int
    spec: FineTuneJobSpec
    stages: tuple[PlannedStage, ...]

    def stage(self, name: StageName) -> PlannedStage:
        """The stage called `name`.

        Raises:
            KeyError: the plan ends before it.
        """
        for stage in self.stages:
            if stage.name is name:
                return stage
        raise KeyError(f"the plan of {self.job} has no stage {name}")

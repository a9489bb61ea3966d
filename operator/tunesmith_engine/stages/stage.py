"""What is told of a stage, once: the form of the rows of `catalog.py`, and of all of them."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from tunesmith_api.finetunejob.resources import Resources
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import Environment, StageName
from tunesmith_engine.stages.memory import Workload

# A stage's name stands between the job's and the attempt's number in the name of a pod, whose
# hostname is a DNS label of 63 characters, of which a job may take 40 (`child_names.py`).
_NAME: Final = re.compile(r"[a-z]{1,12}")
# Where what stages leave to each other lies.
_OF_EVERY_STAGE: Final = ("workspace",)


class Compute(StrEnum):
    """What a stage computes on: what its pods ask for, and what the job is billed for."""

    PROCESSOR = "processor"
    # One accelerator where the job's workers have any: the stage only runs a model.
    ACCELERATOR = "accelerator"
    # The stage itself is spread over the job's workers, each with all its accelerators.
    WORKERS = "workers"


@dataclass(frozen=True, slots=True)
class Published:
    """An artifact of the stage that every version keeps, and its file name there.

    `is_optional`: jobs that do not make it have versions without it.
    """

    artifact: str
    file: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One row.

    `phase` is the job's word while the stage runs, `condition` the one that is True once it is
    done. `function` is `module:name`, a `StageFunction`, called in a process of
    `environment`. `weight` is its share of the job's time, which only moves the percentage.
    `memory` is the most that all its processes take, in bytes.

    `fields` are paths below `spec`, each with all below it, that the outcome depends on, `shared`
    those that it depends on as well, and which are the `fields` of another row; `sources`
    are paths of sources whose content counts; `reads` are earlier stages whose results it is given,
    and whose keys its own key digests. NB: a field in the wrong row either repeats work or reuses
    what no longer fits. `names_the_job` says that the outcome carries the job's name, `resumes`
    that a stopped attempt may leave checkpoints from which the next goes on. `applies` tells
    whether a spec wants the stage at all, `holds_accelerators` whether it then computes on those
    that `compute` says. Of the secrets that the spec names it is given those below the paths in
    `secrets`, and that of the workspace.
    """

    name: StageName
    phase: str
    condition: str
    environment: Environment
    function: str
    weight: float
    fields: tuple[str, ...]
    memory: Callable[[Workload], int]
    shared: tuple[str, ...] = ()
    reads: tuple[StageName, ...] = ()
    sources: tuple[str, ...] = ()
    published: tuple[Published, ...] = ()
    compute: Compute = Compute.PROCESSOR
    names_the_job: bool = False
    resumes: bool = False
    secrets: tuple[str, ...] = ()
    holds_accelerators: Callable[[FineTuneJobSpec], bool] = lambda _: True
    applies: Callable[[FineTuneJobSpec], bool] = lambda _: True

    @property
    def package(self) -> str:
        """What `python -m` starts in the environment."""
        return self.function.partition(":")[0].partition(".")[0]

    def num_workers(self, resources: Resources) -> int:
        """Over how many processes the stage is spread."""
        return resources.workers if self.compute is Compute.WORKERS else 1

    def num_accelerators(self, spec: FineTuneJobSpec) -> int:
        """The accelerators of all its pods together."""
        resources = spec.resources
        if not self.holds_accelerators(spec):
            return 0
        match self.compute:
            case Compute.PROCESSOR:
                return 0
            case Compute.ACCELERATOR:
                return min(1, resources.gpus_per_worker)
            case Compute.WORKERS:
                return resources.workers * resources.gpus_per_worker

    def secrets_for(self, spec: FineTuneJobSpec) -> list[str]:
        """The names of the secrets that the stage is given: those that it uses, and no others."""
        used = (*_OF_EVERY_STAGE, *self.secrets)
        # An item of a list is below it, and `model` is not below `models`.
        below = tuple(f"{path}{mark}" for path in used for mark in (".", "["))
        return sorted(
            {
                secret.name
                for path, secret in spec.secret_references().items()
                if path.startswith(below)
            }
        )


class Catalog:
    """Stages in order.

    Raises:
        ValueError: a row has a name that pods cannot carry or that another has, reads a stage that
            does not come before it, or has no weight; or the last stage, which publishes, does not
            read one whose documents belong into a version.
    """

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._stages: dict[StageName, Stage] = {}
        for stage in stages:
            self._require_sound(stage)
            self._stages[stage.name] = stage
        last = list(self)[-1]
        unread = [stage.name for stage in self if stage.published and stage.name not in last.reads]
        if unread:
            raise ValueError(f"{last.name} does not read {unread}, whose documents are published")

    def __iter__(self) -> Iterator[Stage]:
        return iter(self._stages.values())

    def __getitem__(self, name: StageName) -> Stage:
        return self._stages[name]

    @property
    def names(self) -> tuple[StageName, ...]:
        """The names in order."""
        return tuple(self._stages)

    def applying(self, spec: FineTuneJobSpec) -> tuple[Stage, ...]:
        """The stages that a job with this spec goes through."""
        return tuple(stage for stage in self if stage.applies(spec))

    def with_stage(self, added: Stage, *, before: StageName) -> "Catalog":
        """A catalogue with one stage more."""
        rows = ((added, stage) if stage.name == before else (stage,) for stage in self)
        return Catalog(stage for row in rows for stage in row)

    def _require_sound(self, stage: Stage) -> None:
        if not _NAME.fullmatch(stage.name) or stage.name in self._stages:
            raise ValueError(f"stage '{stage.name}': a name is new and has 1 to 12 small letters")
        unknown = [name for name in stage.reads if name not in self._stages]
        if unknown:
            raise ValueError(f"stage '{stage.name}' reads {unknown}, which do not come before it")
        if stage.weight <= 0:
            raise ValueError(f"stage '{stage.name}' has weight {stage.weight}; give more than 0")

"""Jobs on this machine whose stages are those of `fake_stages`: real processes, no model."""

import json
import shlex
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from manifests import DEFAULT_STAGES, a_job
from tunesmith_api.finetunejob.job import FineTuneJob
from tunesmith_api.finetunejob.status import FineTuneJobStatus
from tunesmith_engine.local.environments import Environments
from tunesmith_engine.local.executor import LocalExecutor
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import lock_job
from tunesmith_engine.local.runner import run_plan
from tunesmith_engine.planning.plan import Plan, plan
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.contracts import Environment, StageName
from tunesmith_engine.stages.stage import Catalog

STAGES = list(DEFAULT_STAGES)
FINGERPRINTS = {"model": "a model", "dataset.train": "some rows"}


@dataclass
class Place:
    """A folder with a home, three environments and what the stages shall do."""

    root: Path
    seen: list[FineTuneJobStatus] = field(default_factory=list)

    @property
    def home(self) -> HomeFolder:
        return HomeFolder(self.root / "home")

    @property
    def base(self) -> Path:
        return self.root / "base"

    @property
    def environments(self) -> Environments:
        return Environments(self.root / "environments")

    def wish(self, **behaviours: list[str]) -> None:
        """What the attempts of each stage do, in order."""
        (self.base / "behaviour.json").write_text(json.dumps(behaviours))

    def diary(self) -> list[str]:
        path = self.base / "diary.txt"
        return path.read_text().splitlines() if path.exists() else []

    def started(self) -> list[str]:
        """The stages in the order in which they were started."""
        return [line.split()[1] for line in self.diary() if line.startswith("start ")]

    def run(
        self,
        job: FineTuneJob | None = None,
        *,
        until: StageName | None = None,
        catalog: Catalog = CATALOG,
        stop: threading.Event | None = None,
    ) -> FineTuneJobStatus:
        """What `run_job` does once it has read the sources."""
        planned = self.plan(job, until=until, catalog=catalog)
        with lock_job(self.home.lock(planned.job), job=planned.job):
            executor = LocalExecutor(
                planned, home=self.home, environments=self.environments, base=self.base
            )
            try:
                executor.recover()
                return run_plan(
                    planned,
                    executor,
                    home=self.home,
                    watch=self.seen.append,
                    stop=stop or threading.Event(),
                )
            finally:
                executor.close()

    def plan(
        self,
        job: FineTuneJob | None = None,
        *,
        until: StageName | None = None,
        catalog: Catalog = CATALOG,
    ) -> Plan:
        return plan(job or a_small_job(), fingerprints=FINGERPRINTS, until=until, catalog=catalog)


def a_small_job(**spec: object) -> FineTuneJob:
    return FineTuneJob.model_validate(a_job(**spec))


def make_place(root: Path) -> Place:
    """A place whose environments are this interpreter, running `fake_stages` for every module."""
    place = Place(root)
    place.base.mkdir(parents=True)
    place.wish()
    for name in Environment:
        python = place.environments.root / name / "bin" / "python"
        python.parent.mkdir(parents=True)
        support = shlex.quote(str(Path(__file__).parent))
        python.write_text(
            f"#!/bin/sh\nexport PYTHONPATH={support}\n"
            f'[ "$2" = counting ] && exec {shlex.quote(sys.executable)} "$@"\nshift 2\n'
            f'exec {shlex.quote(sys.executable)} -S -m fake_stages "$@"\n'
        )
        python.chmod(0o755)
    return place

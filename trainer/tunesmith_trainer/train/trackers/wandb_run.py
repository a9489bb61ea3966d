"""A run of Weights & Biases: on its server, or offline in the job's folder."""

import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tunesmith_api.finetunejob.tracking import Wandb
from tunesmith_engine.sources.credentials import Secret
from tunesmith_trainer.train.trackers.rows import Ending, Row
from tunesmith_trainer.train.trackers.run_ids import RunIds

NAME: Final = "wandb"
API_KEY: Final = "WANDB_API_KEY"
# The library's own folder, below the one that it is given.
FOLDER: Final = "wandb"


class WandbRun:
    """The run `run_name`, with files below `folder`.

    A server says which step it has. Offline the files of earlier attempts go, and the whole curve
    is written once more, under the same id.
    """

    def __init__(
        self,
        wandb: Wandb,
        *,
        folder: Path,
        run_name: str,
        settings: Mapping[str, str],
        secret: Secret,
        run_ids: RunIds,
    ) -> None:
        self._wandb = wandb
        self._folder = folder
        self._run_name = run_name
        self._settings = settings
        self._secret = secret
        self._run_ids = run_ids
        self._run: Any = None
        self._next_step = 0

    def open(self) -> None:
        """Begin the run, or go on with it."""
        # Else what goes wrong in the library is told to its makers, and where.
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        run_id = self._run_ids.read(NAME)
        if run_id is None:
            run_id = uuid.uuid4().hex[:8]
            self._run_ids.write(NAME, run_id)
        if self._wandb.mode == "offline":
            shutil.rmtree(self._folder / FOLDER, ignore_errors=True)
        self._run = wandb.init(
            project=self._wandb.project,
            entity=self._wandb.entity,
            id=run_id,
            # Begun if it is not there.
            resume="allow",
            mode=self._wandb.mode,
            dir=str(self._folder),
            name=self._run_name,
            config=dict(self._settings),
            settings=self._options(wandb),
        )
        self._next_step = self._run.step

    def log(self, rows: list[Row]) -> None:
        """Log what the run has not; the library sends it by itself."""
        for row in rows:
            if row.step >= self._next_step:
                self._run.log(dict(row.values), step=row.step)
                self._next_step = row.step + 1

    def close(self, ending: Ending) -> None:
        """Send what is left and end the run."""
        self._run.finish(exit_code=0 if ending == "finished" else 1)

    def _options(self, wandb: Any) -> Any:
        # NB: numbers and settings alone. By itself the library would also take what is printed,
        # which may quote rows, the code, the command line and the names of machine and user.
        server = {"base_url": self._wandb.url} if self._wandb.url else {}
        return wandb.Settings(
            api_key=self._secret.get(API_KEY),
            console="off",
            disable_code=True,
            disable_git=True,
            disable_job_creation=True,
            # None would mean that of the machine.
            host="",
            save_code=False,
            silent=True,
            symlink=False,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            **server,
        )

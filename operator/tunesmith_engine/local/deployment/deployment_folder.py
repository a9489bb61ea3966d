"""The folder of a deployment in the home folder: what survives whoever serves it.

deployments/NAME/manifest.yaml status.json command.json monitoring.json salt lock
deployments/NAME/replicas/REVISION-N/process.json log.txt
deployments/NAME/recordings/REVISION-BEGIN.jsonl
deployments/NAME/proxy/
"""

import logging
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import VersionLabel
from tunesmith_api.manifest import ManifestError, load_resource
from tunesmith_api.modeldeployment.deployment import ModelDeployment
from tunesmith_api.modeldeployment.status import ModelDeploymentStatus
from tunesmith_engine.deployment.observations import Command
from tunesmith_engine.local.home_folder import HomeFolder
from tunesmith_engine.local.locks import is_locked
from tunesmith_engine.local.process_table import ProcessIdentity
from tunesmith_engine.stages.reporter import write_atomically

_LOG = logging.getLogger(__name__)


class CommandRecord(ApiModel):
    """`command.json`: what a person asked for with `tunesmith rollout`."""

    verb: Literal["pause", "promote", "abort"]
    version: VersionLabel | None = None


class ReplicaRecord(ApiModel):
    """`process.json` of a replica: who it is, where it listens, how often it was started again.

    `exit_code` is that of the last start that ended, None if nobody saw its end.
    """

    port: int
    identity: ProcessIdentity | None = None
    restarts: int = 0
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class ReplicaFolder:
    """The files of one replica; its name is REVISION-N."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def revision(self) -> str:
        return self.name.rpartition("-")[0]

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    def read(self) -> ReplicaRecord | None:
        """What is known of its process; None: nothing was started, or its end is seen to."""
        try:
            return ReplicaRecord.model_validate_json((self.path / "process.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def write(self, record: ReplicaRecord) -> None:
        write_atomically(self.path / "process.json", record.model_dump_json(by_alias=True))

    def forget(self) -> None:
        """There is no such replica any more. Its log stays."""
        (self.path / "process.json").unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class DeploymentFolder:
    """One deployment's folder; nothing is made until it is written to."""

    path: Path

    @classmethod
    def of(cls, home: HomeFolder, name: str) -> "DeploymentFolder":
        """The folder of a name.

        Raises:
            ValueError: it is no name of a deployment.
        """
        return cls(home.deployment(name))

    @property
    def manifest(self) -> Path:
        return self.path / "manifest.yaml"

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def proxy(self) -> Path:
        return self.path / "proxy"

    def salt(self) -> str:
        """What all replicas share for as long as the folder is there, made on first use."""
        path = self.path / "salt"
        try:
            return path.read_text(encoding="ascii")
        except FileNotFoundError:
            made = secrets.token_hex(32)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(made, encoding="ascii")
            return made

    @property
    def replicas(self) -> Path:
        return self.path / "replicas"

    @property
    def recordings(self) -> Path:
        return self.path / "recordings"

    @property
    def monitoring(self) -> Path:
        return self.path / "monitoring.json"

    @property
    def is_served(self) -> bool:
        """Whether a process serves the deployment now."""
        return is_locked(self.lock)

    def replica(self, revision: str, index: int) -> ReplicaFolder:
        return ReplicaFolder(self.replicas / f"{revision}-{index}")

    def started_replicas(self) -> list[ReplicaFolder]:
        """Those that have a process, or had one whose end nobody has seen to."""
        return [ReplicaFolder(path.parent) for path in self.replicas.glob("*/process.json")]

    def read_deployment(self) -> ModelDeployment | None:
        """The deployment as it was served last; None if that cannot be read."""
        try:
            text = self.manifest.read_text(encoding="utf-8")
            return load_resource(text, ModelDeployment, source=str(self.manifest))
        except (FileNotFoundError, UnicodeDecodeError, ManifestError):
            return None

    def read_status(self) -> ModelDeploymentStatus | None:
        """The status as it was stored last; None if there is none that can be read."""
        path = self.path / "status.json"
        try:
            return ModelDeploymentStatus.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            # Of another release, or torn: the newest version is deployed again, without a trial.
            _LOG.warning("%s is no status and is passed over: %s", path, error)
            return None

    def write_status(self, status: ModelDeploymentStatus) -> None:
        """Replace the status; readers see the old one or the new one."""
        text = status.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(self.path / "status.json", text)

    def read_command(self) -> Command | None:
        """What a person asks for now."""
        try:
            record = CommandRecord.model_validate_json((self.path / "command.json").read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        return Command(record.verb, record.version)

    def write_command(self, command: Command | None) -> None:
        """Ask for something in place of what was asked for before; None: for nothing."""
        path = self.path / "command.json"
        if command is None:
            path.unlink(missing_ok=True)
            return
        record = CommandRecord(verb=command.verb, version=command.version)
        write_atomically(path, record.model_dump_json(by_alias=True, exclude_none=True))

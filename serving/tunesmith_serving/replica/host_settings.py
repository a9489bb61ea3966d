"""What a replica of a shared base is told about itself, in one environment variable."""

import os
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import Fraction
from tunesmith_engine.deployment.adapter_list import WantedAdapter
from tunesmith_serving.replica.settings import ReplicaSettings, Seconds

VARIABLE: Final = "TUNESMITH_ADAPTER_HOST"


class HostSettings(ApiModel):
    """The base that a replica has loaded, and how it watches its adapters.

    Attributes:
        digest: the base's digest, proven before the engine was started.
        revision: that of the base, under the settings of the deployment.
        model: the public name by which clients ask for the model.
        max_model_length: longest request in tokens.
        probe_seconds: as of `ReplicaSettings`.
        max_probe_seconds: as of `ReplicaSettings`.
        probe_token_fraction: of all adapters together.
        progress_seconds: as of `ReplicaSettings`.
        tap: as of `ReplicaSettings`.
        public_keys: one of which has to have signed an adapter, if there are any.
    """

    digest: str
    revision: str = ""
    model: str
    max_model_length: Annotated[int, Field(ge=1)] | None = None
    probe_seconds: Seconds = ReplicaSettings.model_fields["probe_seconds"].default
    max_probe_seconds: Seconds = ReplicaSettings.model_fields["max_probe_seconds"].default
    probe_token_fraction: Fraction = ReplicaSettings.model_fields["probe_token_fraction"].default
    progress_seconds: Seconds = ReplicaSettings.model_fields["progress_seconds"].default
    tap: bool = ReplicaSettings.model_fields["tap"].default
    public_keys: list[str] = Field(default_factory=list)

    def name_of(self, revision: str) -> str:
        """What the engine calls the adapter of a revision; clients never see it."""
        return f"{self.model}@{revision}"

    def of_adapter(self, wanted: WantedAdapter, *, fingerprints: Path) -> ReplicaSettings:
        """What the adapter's part of this replica is told."""
        return ReplicaSettings(
            version=wanted.version,
            digest=wanted.digest,
            revision=wanted.revision,
            model=self.model,
            engine_model=self.name_of(wanted.revision),
            fingerprints=fingerprints,
            max_model_length=self.max_model_length,
            probe_seconds=self.probe_seconds,
            max_probe_seconds=self.max_probe_seconds,
            probe_token_fraction=self.probe_token_fraction,
            progress_seconds=self.progress_seconds,
            tap=self.tap,
        )

    @classmethod
    def from_environment(cls) -> Self:
        """Read what `environment` wrote.

        Raises:
            RuntimeError: this process was not started by `tunesmith_serving serve --adapters`.
            ValidationError: the variable holds something else.
        """
        text = os.environ.get(VARIABLE)
        if text is None:
            raise RuntimeError(
                f"{VARIABLE} is not set: start the server by `python -m tunesmith_serving serve "
                "--adapters`"
            )
        return cls.model_validate_json(text)

    def environment(self) -> dict[str, str]:
        """The variable that hands these settings over."""
        return {VARIABLE: self.model_dump_json(by_alias=True, exclude_none=True)}

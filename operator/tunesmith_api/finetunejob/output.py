"""`spec.output`: the name of the model, and where its versions are kept."""

from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import DnsLabel, SecretReference, VersionLabel
from tunesmith_api.rules import Rule
from tunesmith_api.uris import TargetUri


class Output(ApiModel):
    """Under which name, as what, and where the finished model is kept."""

    model: DnsLabel
    artifact: Literal["merged", "adapter", "both"] = Field(
        "merged",
        description="merged: one model, compressed. adapter: the LoRA adapter alone, to be served "
        "with others on their base, which is kept once. both: a version that can be served "
        "either way.",
    )
    # No default in a cluster beyond the volume: with workspace.uri a rule asks for one.
    uri: Annotated[TargetUri | None, DecidedLater("the home folder's models/")] = Field(
        None,
        description="Folder that holds the versions of the model. Default: the home "
        "folder's models/.",
    )
    version: Annotated[
        VersionLabel | None,
        DecidedLater("the first 12 characters of its digest"),
    ] = Field(None, description="Name of the version. Default: the first characters of its digest.")
    secret_ref: SecretReference | None = Field(None, description="Credentials to write the output.")

    @property
    def has_adapter(self) -> bool:
        """Whether the adapter is published."""
        return self.artifact != "merged"

    @property
    def is_remote(self) -> bool:
        """Whether the model goes to an object store."""
        return self.uri is not None and not self.uri.startswith("file://")


RULES: Final[tuple[Rule[Output], ...]] = (
    Rule(
        name="secret-for-remote-outputs",
        scopes=("output",),
        field="secretRef",
        holds=lambda output: output.secret_ref is None or output.is_remote,
        cel="!has(self.secretRef) || (has(self.uri) && !self.uri.startsWith('file://'))",
        message="local outputs are written without credentials; leave secretRef out",
    ),
)

"""`spec.output`: the name of the model, and where its versions are kept."""

import re
from typing import Annotated, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import DnsLabel, SecretReference, VersionLabel
from tunesmith_api.rules import Rule
from tunesmith_api.uris import HUB_TARGET, REGISTRY_TARGET, TargetUri


class Signing(ApiModel):
    """Sign the version, so that who serves it can demand to know its publisher."""

    secret_ref: SecretReference = Field(
        description="Secret whose key `signing.key` is an ECDSA P-256 private key in PEM, without "
        "a password."
    )


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
        description="Folder that holds the versions of the model, or a repository: hf://OWNER/NAME "
        "of the Hugging Face hub, oci://REGISTRY/REPOSITORY of a registry of images. There a "
        "version is a tag; @BRANCH or :TAG behind it is what moves on to the newest (default: "
        "@main, no tag). Default: the home folder's models/.",
    )
    private: bool = Field(
        True,
        description="Whether a repository that is made on the hub is seen by its owner alone. One "
        "that is there stays what it is.",
    )
    version: Annotated[
        VersionLabel | None,
        DecidedLater("the first 12 characters of its digest"),
    ] = Field(None, description="Name of the version. Default: the first characters of its digest.")
    secret_ref: SecretReference | None = Field(None, description="Credentials to write the output.")
    signing: Annotated[Signing | None, DecidedLater("not signed")] = Field(
        None,
        description="Key to sign the version with, as cosign's sign-blob does. Default: not "
        "signed.",
    )

    @property
    def has_adapter(self) -> bool:
        """Whether the adapter is published."""
        return self.artifact != "merged"

    @property
    def is_repository(self) -> bool:
        """Whether versions are tags, and nothing else has a place beside them."""
        return self.uri is not None and self.uri.startswith(("hf://", "oci://"))

    @property
    def is_remote(self) -> bool:
        """Whether the model leaves the machine or the volume."""
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
    Rule(
        name="hub-outputs-name-a-repository",
        scopes=("output",),
        field="uri",
        holds=lambda output: (
            output.uri is None
            or not output.uri.startswith("hf://")
            or re.fullmatch(HUB_TARGET, output.uri) is not None
        ),
        cel=f"!has(self.uri) || !self.uri.startsWith('hf://') || self.uri.matches(r'{HUB_TARGET}')",
        message="a repository of the hub is written hf://OWNER/NAME or hf://OWNER/NAME@BRANCH",
    ),
    Rule(
        name="registry-outputs-name-a-repository",
        scopes=("output",),
        field="uri",
        holds=lambda output: (
            output.uri is None
            or not output.uri.startswith("oci://")
            or re.fullmatch(REGISTRY_TARGET, output.uri) is not None
        ),
        cel="!has(self.uri) || !self.uri.startsWith('oci://') || "
        f"self.uri.matches(r'{REGISTRY_TARGET}')",
        message="a repository of a registry is written oci://REGISTRY/REPOSITORY or "
        "oci://REGISTRY/REPOSITORY:TAG, in small letters",
    ),
    Rule(
        name="hub-outputs-need-a-secret",
        scopes=("output",),
        field="secretRef",
        holds=lambda output: (
            output.uri is None
            or not output.uri.startswith("hf://")
            or output.secret_ref is not None
        ),
        cel="!has(self.uri) || !self.uri.startsWith('hf://') || has(self.secretRef)",
        message="the hub lets nobody write without a token; name the secret with HF_TOKEN",
    ),
    Rule(
        name="public-on-the-hub-alone",
        scopes=("output",),
        field="private",
        holds=lambda output: (
            output.private or (output.uri is not None and output.uri.startswith("hf://"))
        ),
        cel="self.private || (has(self.uri) && self.uri.startsWith('hf://'))",
        message="only of an hf:// output it is decided here who sees it; leave private out",
    ),
)

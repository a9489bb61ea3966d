"""`spec.output`: the name of the model, and where its versions are kept."""

from typing import Annotated

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import DnsLabel, SecretReference, VersionLabel
from tunesmith_api.uris import TargetUri


class Output(ApiModel):
    """Under which name and where the finished model is kept."""

    model: DnsLabel
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

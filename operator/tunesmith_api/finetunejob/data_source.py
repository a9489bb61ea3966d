"""Where rows lie and how they are read: of training, validation, replay and general text alike."""

from typing import Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_types import SecretReference
from tunesmith_api.uris import SourceUri

DataFormat = Literal[
    "auto",
    "messages",
    "sharegpt",
    "alpaca",
    "promptCompletion",
    "text",
    "dialogues",
    "preference",
]


class DataSource(ApiModel):
    """A file of rows, or a pattern that several files match."""

    uri: SourceUri = Field(
        description="A jsonl, json, csv, tsv, parquet or yaml file, also as .gz or .zst; * matches "
        "several files."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the data.")

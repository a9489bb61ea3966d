"""`spec.tracking`: where training logs its curve beside Tunesmith's own report.

Numbers and hyperparameters alone go there: no rows, prompts or answers.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import SecretReference, ShortText
from tunesmith_api.rules import Rule

# Neither user nor query, as of an Endpoint: keys belong into a secret.
TRACKING_PATTERN = r"^(https?|file)://[^\x00-\x20\x7f@?#]+$"
SERVER_PATTERN = r"^https?://[^\x00-\x20\x7f@?#]+$"
# What W&B takes as the name of an entity or a project.
WANDB_NAME_PATTERN = r"^[A-Za-z0-9][-A-Za-z0-9_.]*$"

TrackingUri = Annotated[str, StringConstraints(pattern=TRACKING_PATTERN, max_length=1024)]
ServerUrl = Annotated[str, StringConstraints(pattern=SERVER_PATTERN, max_length=1024)]
WandbName = Annotated[str, StringConstraints(pattern=WANDB_NAME_PATTERN, max_length=128)]


class Mlflow(ApiModel):
    """A run in an experiment of MLflow."""

    tracking_uri: TrackingUri = Field(
        description="That of a server, or file:// of a folder, which with a relative "
        "path lies beside the manifest."
    )
    experiment: ShortText = Field("tunesmith", description="It is made where it is missing.")
    secret_ref: SecretReference | None = Field(
        None,
        description="A secret with MLFLOW_TRACKING_TOKEN, or with MLFLOW_TRACKING_USERNAME and "
        "MLFLOW_TRACKING_PASSWORD.",
    )


class Wandb(ApiModel):
    """A run in a project of Weights & Biases."""

    project: WandbName = Field("tunesmith", description="It is made where it is missing.")
    entity: Annotated[WandbName | None, DecidedLater("that of the key")] = Field(
        None, description="User or team. Default: that of the key."
    )
    mode: Literal["online", "offline"] = Field(
        "online",
        description="offline: into the job's folder, from which `wandb sync` can send it.",
    )
    url: Annotated[ServerUrl | None, DecidedLater("W&B's own")] = Field(
        None, description="A server of your own. Default: W&B's."
    )
    secret_ref: SecretReference | None = Field(
        None, description="A secret with WANDB_API_KEY; online runs need it."
    )


class Tracking(ApiModel):
    """Trackers that training logs to. They need the extras `tensorboard`, `mlflow` and `wandb`."""

    tensorboard: bool = Field(False, description="true keeps event files among the artifacts.")
    mlflow: Annotated[Mlflow | None, DecidedLater("not logged there")] = Field(
        None, description="Default: not logged there."
    )
    wandb: Annotated[Wandb | None, DecidedLater("not logged there")] = Field(
        None, description="Default: not logged there."
    )


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="mlflow-files-without-secret",
        scopes=("tracking.mlflow",),
        field="secretRef",
        holds=lambda mlflow: (
            mlflow.secret_ref is None or not mlflow.tracking_uri.startswith("file://")
        ),
        cel="!has(self.secretRef) || !self.trackingUri.startsWith('file://')",
        message="a folder is written without credentials; leave secretRef out",
    ),
    Rule(
        name="mlflow-files-outlive-the-pod",
        scopes=("",),
        field="tracking.mlflow.trackingUri",
        holds=lambda spec: (
            spec.workspace.uri is None
            or spec.tracking.mlflow is None
            or not spec.tracking.mlflow.tracking_uri.startswith("file://")
        ),
        cel="!has(self.workspace.uri) || !has(self.tracking.mlflow) || "
        "!self.tracking.mlflow.trackingUri.startsWith('file://')",
        message="with workspace.uri no volume keeps the folder; give the address of a server",
    ),
    Rule(
        name="wandb-key-when-online",
        scopes=("tracking.wandb",),
        field="secretRef",
        holds=lambda wandb: (wandb.mode == "online") == (wandb.secret_ref is not None),
        cel="(self.mode == 'online') == has(self.secretRef)",
        message="online runs need a secret with WANDB_API_KEY, offline runs need none; set "
        "secretRef, or mode: offline without it",
    ),
)

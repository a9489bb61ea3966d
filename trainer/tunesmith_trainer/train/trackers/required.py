"""What `spec.tracking` needs before anything is trained: libraries, and keys in secrets."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tunesmith_api.finetunejob.tracking import Mlflow, Tracking, Wandb
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import NO_SECRET, Secret, read_secret
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.trackers import mlflow_run, wandb_run

# The package that each extra of the same name brings.
PACKAGES: Final = ("tensorboard", "mlflow", "wandb")


def require_trackers(tracking: Tracking, *, secrets: Path) -> None:
    """Return if the libraries of the trackers are installed here and their credentials are there.

    Raises:
        BadInputError: one is missing.
    """
    for name in asked_for(tracking):
        if importlib.util.find_spec(name) is None:
            raise BadInputError(
                Reason.ENVIRONMENT_MISSING,
                f"tracking.{name} needs {name}, which is not installed beside {sys.executable}; "
                f"run pip install 'tunesmith[{name}]' there, or use the trainer image of this "
                "release, which holds it",
            )
    mlflow_secret(tracking, secrets=secrets)
    wandb_secret(tracking, secrets=secrets)


def asked_for(tracking: Tracking) -> Iterator[str]:
    """The names of the trackers that a job logs to."""
    return (name for name in PACKAGES if getattr(tracking, name))


def mlflow_secret(tracking: Tracking, *, secrets: Path) -> Secret:
    """The credentials of MLflow.

    Raises:
        BadInputError: the secret is missing, or has none of the keys.
    """
    secret = _secret(tracking.mlflow, secrets=secrets)
    if secret.values and not set(secret.values) & set(mlflow_run.CREDENTIALS):
        raise BadInputError(
            Reason.SECRET_NOT_FOUND,
            f"tracking.mlflow.secretRef: secret '{secret.name}' has none of "
            f"{', '.join(mlflow_run.CREDENTIALS)}; add one",
        )
    return secret


def wandb_secret(tracking: Tracking, *, secrets: Path) -> Secret:
    """The credentials of W&B.

    Raises:
        BadInputError: the secret is missing, or has no key.
    """
    secret = _secret(tracking.wandb, secrets=secrets)
    if secret is not NO_SECRET:
        try:
            secret.require(wandb_run.API_KEY)
        except SourceError as error:
            raise as_stage_error(error) from error
    return secret


def _secret(server: Mlflow | Wandb | None, *, secrets: Path) -> Secret:
    try:
        return read_secret(server.secret_ref if server else None, secrets=secrets)
    except SourceError as error:
        raise as_stage_error(error) from error

"""How a replica's engine is started: `python -m tunesmith_serving serve` on a version's folder."""

import os
from pathlib import Path

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_engine.deployment.request_identity import SALT_VARIABLE
from tunesmith_engine.deployment.serve_command import (
    API_KEY_VARIABLE,
    serve_arguments,
)
from tunesmith_engine.local.deployment.deployment_folder import ReplicaFolder
from tunesmith_engine.local.deployment.replica_process import Launch, Launcher
from tunesmith_engine.local.environments import Environments, stage_variables
from tunesmith_engine.local.envoy.config import HOST
from tunesmith_engine.sources.credentials import API_KEY, read_secret
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.digests import path_of


def serve_launcher(
    spec: ModelDeploymentSpec, *, environments: Environments, secrets: Path, salt: str
) -> Launcher:
    """Start the server on a version with the settings of `spec`; `salt` is the deployment's own.

    Raises:
        EnvironmentMissing: vLLM is not installed.
        SourceError: the secret of `spec.apiKeys` is missing, or has no such key.
    """
    python = environments.python(Environment.SERVER)
    keys = (
        {API_KEY_VARIABLE: read_secret(spec.api_keys, secrets=secrets).require(API_KEY)}
        if spec.api_keys
        else {}
    )
    own = {SALT_VARIABLE: salt, **keys}

    def launch(
        wanted: DesiredRevision, folder: ReplicaFolder, port: int, stable_port: int | None
    ) -> Launch:
        command = serve_arguments(
            wanted,
            spec,
            folder=str(path_of(wanted.uri)),
            host=HOST,
            port=port,
            stable_url=f"http://{HOST}:{stable_port}" if stable_port else None,
        )
        return Launch(
            [str(python), *command], {**stage_variables(os.environ, attempt=folder.path), **own}
        )

    return launch

"""How a replica's engine is started: `python -m tunesmith_serving serve` on a version's folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision
from tunesmith_engine.local.deployment.deployment_folder import ReplicaFolder
from tunesmith_engine.local.deployment.replica_process import Launch, Launcher
from tunesmith_engine.local.environments import Environments, stage_variables
from tunesmith_engine.sources.credentials import read_secret
from tunesmith_engine.stages.contracts import Environment
from tunesmith_engine.stages.digests import path_of

# The key of `spec.apiKeys`, and where vLLM looks for it: not among the arguments, which everybody
# on the machine can read.
API_KEY = "api-key"
_API_KEY_VARIABLE = "VLLM_API_KEY"


def serve_launcher(
    spec: ModelDeploymentSpec, *, environments: Environments, secrets: Path
) -> Launcher:
    """Start the server on a version with the settings of `spec`.

    Raises:
        EnvironmentMissing: vLLM is not installed.
        SourceError: the secret of `spec.apiKeys` is missing, or has no such key.
    """
    python = environments.python(Environment.SERVER)
    keys = (
        {_API_KEY_VARIABLE: read_secret(spec.api_keys, secrets=secrets).require(API_KEY)}
        if spec.api_keys
        else {}
    )

    def launch(wanted: DesiredRevision, folder: ReplicaFolder, port: int) -> Launch:
        command = [str(python), "-m", "tunesmith_serving", "serve", str(path_of(wanted.uri))]
        command += ["--host", "127.0.0.1", "--port", str(port), "--name", spec.model]
        command += ["--revision", wanted.revision, *_overrides(spec)]
        return Launch(command, {**stage_variables(os.environ, attempt=folder.path), **keys})

    return launch


def _overrides(spec: ModelDeploymentSpec) -> Iterator[str]:
    given = {
        "--max-model-length": spec.engine.max_model_length,
        "--max-requests": spec.engine.max_requests,
        "--tensor-parallel-size": spec.resources.gpus_per_replica or None,
    }
    for option, value in given.items():
        if value is not None:
            yield from (option, str(value))

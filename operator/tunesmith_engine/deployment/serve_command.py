"""What a replica of a revision is started with, on a laptop as in a cluster."""

from typing import Final

from tunesmith_api.modeldeployment.engine import SHUTDOWN_TIMEOUT_S
from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_engine.deployment.observations import DesiredRevision

# Where vLLM looks for its key: not among its arguments, which everybody on a machine can read.
API_KEY_VARIABLE: Final = "VLLM_API_KEY"


def serve_arguments(
    revision: DesiredRevision,
    spec: ModelDeploymentSpec,
    *,
    folder: str,
    host: str,
    port: int,
    stable_url: str | None = None,
) -> list[str]:
    """The words behind Python's name; the version's files lie in `folder`.

    `stable_url` is where the revision that this one is compared with answers.
    """
    arguments = spec.engine.arguments.model_dump_json(by_alias=True, exclude_none=True)
    adapters = spec.adapters.model_dump_json(by_alias=True) if spec.adapters else None
    is_compared = revision.compared_with is not None and stable_url is not None
    options = {
        "host": host,
        "port": port,
        "name": spec.model,
        "version": revision.version,
        "revision": revision.revision,
        "digest": revision.digest,
        "shutdown-timeout": SHUTDOWN_TIMEOUT_S,
        "tensor-parallel-size": max(1, spec.resources.gpus_per_replica),
        "max-model-length": spec.engine.max_model_length,
        "max-requests": spec.engine.max_requests,
        "adapters": adapters if revision.is_base else None,
        "engine-arguments": arguments if arguments != "{}" else None,
        "probe-seconds": spec.monitoring.probe_interval_seconds,
        "max-probe-seconds": spec.monitoring.max_probe_interval_seconds,
        "probe-token-fraction": spec.monitoring.probe_token_fraction,
        "compare-with": stable_url if is_compared else None,
        "compare-fraction": spec.rollout.compare_fraction if is_compared else None,
    }
    given = (
        part
        for name, value in options.items()
        if value is not None
        for part in (f"--{name}", str(value))
    )
    keys = (part for key in spec.verification.public_keys for part in ("--public-key", key))
    # Nobody reads what is measured for drift where nothing is watched.
    switches = [] if spec.monitoring.enabled else ["--no-tap"]
    return ["-m", "tunesmith_serving", "serve", folder, *given, *keys, *switches]

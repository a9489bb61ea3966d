"""Whether a version can be served as a deployment wants it: merged, or as an adapter."""

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modelversion import ModelVersionSpec
from tunesmith_engine.deployment.observations import AdapterBase
from tunesmith_engine.sources.adapter_version import ADAPTER_SCHEME


def why_unfit(record: ModelVersionSpec, spec: ModelDeploymentSpec) -> str | None:
    """What keeps the version from being served, in words for people; None if nothing does."""
    adapter, wanted = record.adapter, spec.adapters
    if wanted is None:
        if record.scheme != ADAPTER_SCHEME:
            return None
        return "it is an adapter alone; set spec.adapters, or publish the merged model"
    if adapter is None:
        return "it has no adapter; set output.artifact: adapter in its job, and run it again"
    if adapter.rank > wanted.max_rank:
        return f"its adapter has rank {adapter.rank}; raise spec.adapters.maxRank"
    return None


def served_base(record: ModelVersionSpec, spec: ModelDeploymentSpec) -> AdapterBase | None:
    """The base that the version is to run on; None where it is served merged."""
    if spec.adapters is None or record.adapter is None:
        return None
    return AdapterBase(digest=record.adapter.base_digest, uri=record.adapter.base_uri)


def served_bytes(record: ModelVersionSpec, spec: ModelDeploymentSpec) -> int:
    """The size of what a replica loads at its start."""
    if spec.adapters is not None and record.adapter is not None:
        return record.adapter.base_bytes
    # Formats for devices lie in the version as well, and no server reads them.
    exported = tuple(f"{each.path}/" for each in record.exports)
    return sum(file.bytes or 0 for file in record.files if not file.name.startswith(exported))

"""The name of a revision, and its first record in the status.

A revision is a version with all settings that shape its pods. What does not shape them (replicas,
rollout, gateway, port, suspend) changes no revision.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from math import ceil
from typing import Any, Final

from tunesmith_api.modeldeployment.spec import ModelDeploymentSpec
from tunesmith_api.modeldeployment.status import BaseStatus, RevisionStatus
from tunesmith_engine.deployment.observations import AdapterBase, AvailableVersion

_SHAPING: Final = (
    "model",
    "engine",
    "adapters",
    "resources",
    "storage",
    "api_keys",
    "verification",
)


def revision_of(spec: ModelDeploymentSpec, version: AvailableVersion) -> str:
    """Eight hexadecimal characters for a version under the settings of `spec`."""
    named = {"version": version.version, "digest": version.digest, "uri": version.uri}
    based = {"base": version.base.digest} if version.base is not None else {}
    return _revision(spec, {**named, "claim": claim_of(spec, version), **based})


def base_of(spec: ModelDeploymentSpec, version: AvailableVersion) -> BaseStatus | None:
    """The base of a version that is to be served as an adapter.

    Adapters on equal bases, on the same volume and under the same settings, share its replicas,
    wherever each of them found it.
    """
    base = version.base
    if base is None:
        return None
    shape = {"base": base.digest, "claim": claim_of(spec, version)}
    return BaseStatus(revision=_revision(spec, shape), digest=base.digest, uri=base.uri)


def _revision(spec: ModelDeploymentSpec, content: Mapping[str, Any]) -> str:
    # NB: without defaults, so that a field that a later release adds starts no rollout anywhere.
    settings = spec.model_dump(mode="json", include=set(_SHAPING), exclude_defaults=True)
    shape = {**settings, **content}
    return sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:8]


def is_of(spec: ModelDeploymentSpec, revision: RevisionStatus) -> bool:
    """Whether a revision that is served has the settings of `spec`.

    Where it does not, its pods cannot be made from the spec of now: they stay as they are.
    """
    base = revision.base
    version = AvailableVersion(
        version=revision.version,
        digest=revision.digest,
        uri=revision.uri,
        created=revision.since,
        num_bytes=0,
        claim_name=revision.claim_name,
        base=AdapterBase(digest=base.digest, uri=base.uri) if base else None,
    )
    return revision_of(spec, version) == revision.revision


def claim_of(spec: ModelDeploymentSpec, version: AvailableVersion) -> str | None:
    """The volume that the replicas read the version from, if it lies on one."""
    return spec.storage.claim_name or version.claim_name


def taken_up(
    spec: ModelDeploymentSpec, version: AvailableVersion, *, now: datetime
) -> dict[str, Any]:
    """The fields that a revision keeps for as long as it is served."""
    return {
        "revision": revision_of(spec, version),
        "version": version.version,
        "digest": version.digest,
        "uri": version.uri,
        "claim_name": claim_of(spec, version),
        "base": base_of(spec, version),
        "since": now,
    }


def replicas_for(percent: int, *, replicas: int) -> int:
    """How many of the replicas answer that part of the requests; one at least."""
    return max(1, ceil(replicas * percent / 100))

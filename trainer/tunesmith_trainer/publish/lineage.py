"""What a version was made from: enough to make it again, and to see whether one did."""

import re
from typing import Final

from pydantic import JsonValue

from tunesmith_api.modelversion import Lineage
from tunesmith_engine.stages.catalog import CATALOG, PREPARE, TRAIN
from tunesmith_engine.stages.contracts import StageRequest

_SNAPSHOT: Final = re.compile(r"/snapshots/([0-9a-f]{40})")


def lineage_of(request: StageRequest) -> Lineage:
    """The lineage of the version that the job makes."""
    spec, prepared = request.spec, request.inputs[PREPARE.name]
    return Lineage(
        job=request.job,
        base_model=spec.model.uri,
        base_revision=_revision(request),
        data_digest=str(prepared.facts["dataDigest"]),
        seeds={"dataset.seed": spec.dataset.seed, "training.seed": spec.training.seed},
        hyperparameters=_texts(request.inputs[TRAIN.name].facts.get("resolved")),
        versions={
            f"{stage}/{library}": number
            for stage in CATALOG.names
            if stage in request.inputs
            for library, number in sorted(request.inputs[stage].versions.items())
        },
        stage_keys={**dict(request.stage_keys.items()),
                    request.stage: request.key},
    )  # fmt: skip


def _revision(request: StageRequest) -> str:
    """The commit of a hub's model, else the digest of the model as it was read."""
    prepared = request.inputs[PREPARE.name]
    commit = _SNAPSHOT.search(prepared.artifact("model").uri)
    return commit.group(1) if commit else str(prepared.facts["modelDigest"])


def _texts(resolved: JsonValue) -> dict[str, str]:
    return (
        {name: str(value) for name, value in resolved.items()}
        if (isinstance(resolved, dict))
        else {}
    )

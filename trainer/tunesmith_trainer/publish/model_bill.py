"""`sbom.cdx.json`: what a version was made from, for those who have to account for it."""

import re
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Any, Final

from tunesmith_api.modelversion import Lineage
from tunesmith_engine.sources import bill_of_materials as bill
from tunesmith_engine.sources.bill_of_materials import Component
from tunesmith_engine.sources.version_manifest import DRAFT_FOLDER
from tunesmith_engine.stages.catalog import CATALOG, DRAFT, PREPARE
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_trainer.publish.version_facts import VersionFacts

BILL: Final = "sbom.cdx.json"
# The head of a hub's card, between lines of dashes.
_HEAD: Final = re.compile(r"\A---\r?\n(.{0,8192}?)^---", re.DOTALL | re.MULTILINE)
_LICENCE: Final = re.compile(
    r"^license:[ \t]*[\"']?([A-Za-z0-9.+-]{1,64})[\"']?[ \t]*\r?$", re.MULTILINE
)
_MAX_CARD_BYTES: Final = 65_536


def model_bill(request: StageRequest, facts: VersionFacts, lineage: Lineage) -> str:
    """The bill of the version that the job makes, as CycloneDX has it in JSON."""
    data = _data(facts)
    subject: Component = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": request.spec.output.model,
        "modelCard": {
            "modelParameters": {"datasets": [{"ref": each["bom-ref"]} for each in data]},
        },
    }
    parts = [_base(request, lineage), *_draft(request), *data, *_libraries(request)]
    made = bill.document(subject, parts, metadata={"lifecycles": [{"phase": "build"}]})
    return bill.text_of(made)


def _base(request: StageRequest, lineage: Lineage) -> Component:
    prepared = request.inputs[PREPARE.name]
    digest = str(prepared.facts["modelDigest"])
    return {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": lineage.base_model,
        "version": lineage.base_revision,
        **bill.licence_of(_licence(local_path(prepared.artifact("model")))),
        **bill.properties_of([("hashOf", "every file's path and digest, in order of path")]),
        **bill.hashes_of([digest]),
    }


def _draft(request: StageRequest) -> list[Component]:
    """The small model in the version that guesses tokens, where it has one."""
    if DRAFT.name not in request.inputs:
        return []
    drafted = request.inputs[DRAFT.name].artifact("draft")
    return [
        {
            "type": "machine-learning-model",
            "bom-ref": "draft",
            "name": f"{request.spec.output.model}/{DRAFT_FOLDER}",
            **bill.properties_of([("hashOf", "every file's path and digest, in order of path")]),
            **bill.hashes_of([drafted.digest]),
        }
    ]


def _data(facts: VersionFacts) -> list[Component]:
    """Every file of rows that was read, and all of them as they were prepared."""
    read = [
        {
            "type": "data",
            "bom-ref": f"data/{source['split']}/{place}",
            "name": source["file"],
            "data": [{"type": "dataset", "contents": {"url": source["uri"]}}],
            **bill.properties_of([("split", source["split"])]),
            **bill.hashes_of([source["digest"]]),
        }
        for place, source in enumerate(facts.data_card["sources"])
    ]
    prepared = {
        "type": "data",
        "bom-ref": "data/prepared",
        "name": "prepared rows",
        **bill.hashes_of([str(facts.prepared["dataDigest"])]),
    }
    return [*read, prepared]


def _libraries(request: StageRequest) -> list[Component]:
    """What each stage has told, once for all stages that had the same version of it."""
    used: dict[tuple[str, str], list[str]] = {}
    for stage in CATALOG.names:
        if stage in request.inputs:
            for name, version in request.inputs[stage].versions.items():
                used.setdefault((name, version), []).append(stage)
    return [
        bill.library(
            name,
            version,
            licence=_licence_here(name, version),
            properties=[("stage", stage) for stage in stages],
        )
        for (name, version), stages in used.items()
    ]


def _licence_here(name: str, version: str) -> str | None:
    """What the package says of itself, if this environment has the same."""
    try:
        told: Any = metadata(name)
    except PackageNotFoundError:
        return None
    licence = told.get("License-Expression")
    return str(licence) if licence and told["Version"] == version else None


def _licence(folder: Path) -> str | None:
    """What the card beside a base model says; None where it has none, as a GGUF file."""
    try:
        with (folder / "README.md").open("rb") as file:
            text = file.read(_MAX_CARD_BYTES).decode("utf-8", "replace")
    except OSError:
        return None
    head = _HEAD.search(text)
    found = _LICENCE.search(head[1]) if head else None
    return found[1] if found else None

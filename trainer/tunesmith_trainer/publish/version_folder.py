"""The content of a version's folder, all of it determined by what earlier stages left.

NB: a version is called by the digest of this folder. What is written here must not depend on the
time, on a path of this machine, or on the order of a dictionary, or the same model would be
published twice under two names.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.adapter_version import (
    ADAPTER_FOLDER,
    ADAPTER_RECORD,
    AdapterRecord,
)
from tunesmith_engine.sources.version_manifest import DRAFT_FOLDER
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS, DRAFT, EXPORT, TRAIN
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import files_below, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.export.writers import EXAMPLE, example_of
from tunesmith_trainer.publish.model_bill import BILL, model_bill
from tunesmith_trainer.publish.model_card import ModelCard
from tunesmith_trainer.publish.model_version import exported_formats, lineage_of
from tunesmith_trainer.publish.version_facts import gather_facts

# Pickles run code when they are loaded; a module beside weights does where remote code is trusted.
CODE: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so")
# `tunesmith_serving.serve` starts vLLM with these, which are those that were verified.
SERVING: Final = "serving.json"


def gather_version(request: StageRequest, folder: Path, *, base: str | None = None) -> None:
    """Put weights, tokenizer, measurements, model card, lineage and serving settings into `folder`.

    `base` is the digest of the base where the adapter is published.

    Raises:
        VerdictError: PublishFailed, the model's folder holds a file that can run code.
        OSError: the disk is full, or an artifact is gone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if request.spec.output.artifact != "adapter":
        # Its files keep their names, at the top: so vLLM and transformers load the folder.
        compressed = request.inputs[COMPRESS.name].artifact("compressed")
        _link_model(local_path(compressed), folder)
    if base is not None:
        _link_model(
            local_path(request.inputs[TRAIN.name].artifact("tuned")), folder / ADAPTER_FOLDER
        )
        record = AdapterRecord(base_digest=base, rank=request.spec.training.lora.rank)
        write_json(folder / ADAPTER_RECORD, record.model_dump(mode="json", by_alias=True))
    if DRAFT.name in request.inputs:
        _link_model(local_path(request.inputs[DRAFT.name].artifact("draft")), folder / DRAFT_FOLDER)
    _link_exports(request, folder)
    for stage in CATALOG:
        # A stage that does not apply to the job has no result.
        for document in stage.published if stage.name in request.inputs else ():
            result = request.inputs[stage.name]
            made = {artifact.name for artifact in result.artifacts}
            if document.is_optional and document.artifact not in made:
                continue
            artifact = result.artifact(document.artifact)
            shutil.copyfile(local_path(artifact), folder / document.file)
    facts = gather_facts(request)
    write_json(folder / "evaluation.json", facts.evaluation)
    lineage = lineage_of(request)
    write_json(
        folder / "lineage.json",
        lineage.model_dump(mode="json", by_alias=True, exclude_none=True),
    )
    (folder / BILL).write_text(model_bill(request, facts, lineage), encoding="utf-8")
    if request.spec.output.artifact != "adapter":
        write_json(folder / SERVING, facts.serving)
    (folder / "README.md").write_text(ModelCard(request, facts).text(), encoding="utf-8")


def _link_exports(request: StageRequest, folder: Path) -> None:
    """Link the formats for devices; of programs, the examples that Tunesmith itself brings."""
    for each in exported_formats(request):
        source = local_path(request.inputs[EXPORT.name].artifact(each.name))
        example = example_of(each.format)
        if (source / EXAMPLE).read_bytes() != example:
            raise VerdictError(
                Reason.PUBLISH_FAILED, f"{each.name}/{EXAMPLE} was changed after it was written."
            )
        _link_model(source, folder / each.path, but=(EXAMPLE,))
        (folder / each.path / EXAMPLE).write_bytes(example)


def _link_model(source: Path, folder: Path, *, but: tuple[str, ...] = ()) -> None:
    """Link the files where the disk allows it: a version is gathered without copying gigabytes."""
    for path in files_below(source):
        name = path.relative_to(source)
        if name.as_posix() in but:
            continue
        if path.suffix in CODE:
            raise VerdictError(
                Reason.PUBLISH_FAILED,
                f"the model holds {name}, which can run code; only safetensors and "
                "text are published.",
            )
        link(path, folder / name)


def link(source: Path, target: Path) -> None:
    """Have the file at `target`, too."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # NB: a hard link is the artifact of an earlier stage itself. Nothing may write into it
        # here, or a later attempt would find the artifact changed.
        os.link(source.resolve(), target)
    except OSError:
        # Another file system, or one without hard links.
        shutil.copyfile(source, target)


def write_json(path: Path, value: JsonValue) -> None:
    """Write `value` so that equal ones give equal files."""
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")

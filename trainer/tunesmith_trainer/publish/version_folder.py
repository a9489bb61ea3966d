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
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import files_below, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.publish.model_card import ModelCard
from tunesmith_trainer.publish.model_version import lineage_of
from tunesmith_trainer.publish.version_facts import gather_facts

# Pickles run code when they are loaded; a module beside weights does where remote code is trusted.
_CODE: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so")


def gather_version(request: StageRequest, folder: Path) -> None:
    """Put weights, tokenizer, measurements, model card, lineage and serving settings into `folder`.

    Raises:
        VerdictError: PublishFailed, the model's folder holds a file that can run code.
        OSError: the disk is full, or an artifact is gone.
    """
    # The model's own files keep their names, at the top: so vLLM and transformers load the folder.
    compressed = request.inputs[COMPRESS.name].artifact("compressed")
    _link_model(local_path(compressed), folder)
    for stage in CATALOG:
        # A stage that does not apply to the job has no result.
        for document in stage.published if stage.name in request.inputs else ():
            artifact = request.inputs[stage.name].artifact(document.artifact)
            shutil.copyfile(local_path(artifact), folder / document.file)
    facts = gather_facts(request)
    _write_json(folder / "evaluation.json", facts.evaluation)
    _write_json(folder / "lineage.json", lineage_of(request).model_dump(mode="json", by_alias=True))
    # `tunesmith_serving.serve` starts vLLM with these, which are those that were verified.
    _write_json(folder / "serving.json", facts.serving)
    (folder / "README.md").write_text(ModelCard(request, facts).text(), encoding="utf-8")


def _link_model(source: Path, folder: Path) -> None:
    """Link the files where the disk allows it: a version is gathered without copying gigabytes."""
    for path in files_below(source):
        name = path.relative_to(source)
        if path.suffix in _CODE:
            raise VerdictError(
                Reason.PUBLISH_FAILED,
                f"the compressed model holds {name}, which can run code; only safetensors and "
                "text are published.",
            )
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            # NB: a hard link is the artifact of `compress` itself. Nothing may write into it here,
            # or a later attempt would find the artifact changed.
            os.link(path.resolve(), folder / name)
        except OSError:
            # Another file system, or one without hard links.
            shutil.copyfile(path, folder / name)


def _write_json(path: Path, value: JsonValue) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")

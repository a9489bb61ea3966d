"""The content of a version's folder, all of it determined by what earlier stages left."""

import json
import os
import shutil
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import COMPRESS, PREPARE, VERIFY
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.digests import files_below, local_path
from tunesmith_engine.stages.errors import VerdictError
from tunesmith_trainer.publish.evidence import gather_evidence
from tunesmith_trainer.publish.lineage import lineage_of
from tunesmith_trainer.publish.model_card import model_card

FINGERPRINTS: Final = "fingerprints.json"

# What stages wrote for people and monitors: the stage, its artifact, and the name in the version.
_DOCUMENTS: Final = (
    (PREPARE.name, "card", "data-card.json"),
    (VERIFY.name, "parity", "parity.json"),
    (VERIFY.name, "fingerprints", FINGERPRINTS),
)
_CODE: Final = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".py", ".pyc", ".so")


def gather_version(request: StageRequest, folder: Path) -> None:
    """Put weights, tokenizer, evidence, model card, lineage and serving settings into `folder`.

    Raises:
        VerdictError: PublishFailed, the model's folder holds a file that can run code.
        OSError: the disk is full, or an artifact is gone.
    """
    _take_model(local_path(request.inputs[COMPRESS.name].artifact("compressed")), folder)
    for stage, artifact, name in _DOCUMENTS:
        shutil.copyfile(local_path(request.inputs[stage].artifact(artifact)), folder / name)
    evidence = gather_evidence(request)
    _write(folder / "evaluation.json", evidence.evaluation)
    _write(folder / "lineage.json", lineage_of(request).model_dump(mode="json", by_alias=True))
    _write(folder / "serving.json", evidence.serving)
    (folder / "README.md").write_text(model_card(request, evidence), encoding="utf-8")


def _take_model(source: Path, folder: Path) -> None:
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
            os.link(path.resolve(), folder / name)
        except OSError:
            shutil.copyfile(path, folder / name)


def _write(path: Path, value: JsonValue) -> None:
    text = json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")

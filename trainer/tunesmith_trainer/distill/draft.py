"""draft: a small model beside the tuned one, which guesses its tokens where it is served.

Cut out of the model that ships and taught by it, as `distill` does, and served in bf16. There is no
gate: a draft that guesses badly makes serving slower and no answer worse, and `verify` measures it.

Artifacts: `draft`, a model folder in bf16 with its tokenizer; `drafting`, the cut, the scores of
all layers, each model on the way and the curve of the recovery; `recoveryCurve`, JSON lines as
`train/history` says. Facts: those of `distill` that tell of the cut and the recovery.
"""

from pathlib import Path
from typing import Final

from pydantic import JsonValue

from tunesmith_engine.stages.catalog import PREPARE
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of, local_path
from tunesmith_engine.stages.recovery_spec import DRAFT_FIELD, drafted
from tunesmith_trainer.compress.merge import save_merged
from tunesmith_trainer.data.prepared import MODEL
from tunesmith_trainer.distill.recover import CURVE
from tunesmith_trainer.distill.student import (
    LIBRARIES,
    DistillRun,
    Taught,
    clear,
    facts_of,
    taught_student,
    write_document,
)
from tunesmith_trainer.prepare.preflight import refuse_undoable, told_of_draft
from tunesmith_trainer.versions import library_versions

DRAFT: Final = "draft"


def draft(request: StageRequest, reporter: Reporter) -> StageOutcome:
    """Leave a small model in `draft/`.

    Raises:
        BadInputError: the model cannot be cut so.
        VerdictError: merging changed the model, or the recovery diverged.
    """
    as_pruned = request.model_copy(update={"spec": drafted(request.spec)})
    run = DistillRun.of(as_pruned, reporter)
    # As prepare left it: rows and tokenizer may be of the model that distill left by now.
    refuse_undoable(request, model=local_path(request.inputs[PREPARE.name].artifact(MODEL)))
    with told_of_draft():
        taught = taught_student(run)
    facts: dict[str, JsonValue] = {
        **facts_of(run, taught),
        "resolved": {
            f"{DRAFT_FIELD}.recovery.maxSteps": str(taught.recovered.config.num_steps),
        },
    }
    document = run.output / "drafting.json"
    settings = run.prune.model_dump(mode="json", by_alias=True, exclude={"gate"})
    write_document(document, run, taught, told={**facts, "settings": settings})
    artifacts = {
        DRAFT: _written(run, taught),
        "drafting": document,
        "recoveryCurve": run.output / CURVE,
    }
    clear(run)
    return StageOutcome(
        message=taught.ladder.told,
        artifacts=[artifact_of(name, path) for name, path in artifacts.items()],
        facts=facts,
        versions=library_versions(*LIBRARIES),
        warnings=list(run.warnings),
        resumed_from_step=taught.recovered.resumed_from,
    )


def _written(run: DistillRun, taught: Taught) -> Path:
    folder = run.output / DRAFT
    # Training had switched it off, and generation of whoever loads this would crawl.
    taught.model.config.use_cache = True
    save_merged(taught.model, folder, tokenizer_folder=run.prepared.model)
    return folder

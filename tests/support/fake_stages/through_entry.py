"""Behaviours that a stage has through the entry of stage processes."""

import errno
from pathlib import Path

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import Reporter, StageOutcome, StageRequest
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.entry import run_stage
from tunesmith_engine.stages.errors import BadInputError, VerdictError


def run(behaviour: str, path: str) -> int:
    """Run the stage that the request in `path` is for, with this behaviour."""

    def stage(request: StageRequest, reporter: Reporter) -> StageOutcome:
        reporter.progress(behaviour, step=1, total_steps=2)
        _fail(behaviour)
        made = Path(request.output) / "made.txt"
        made.write_text(f"{request.stage} {request.key}")
        return StageOutcome(message="made", artifacts=[artifact_of("made", made)])

    return run_stage(stage, StageRequest.model_validate_json(Path(path).read_bytes()))


def _fail(behaviour: str) -> None:
    match behaviour:
        case "crash":
            raise RuntimeError("as asked")
        case "badInput":
            raise BadInputError(Reason.DATASET_INVALID, "train.jsonl:3: no messages")
        case "verdict":
            raise VerdictError(Reason.EVALUATION_GATE_FAILED, "worse than its base")
        case "fullDisk":
            raise OSError(errno.ENOSPC, "No space left on device")

"""The way into a stage process.

Read the request, run the stage, write the result, choose the exit code.

`python -m tunesmith_trainer STAGE REQUEST` and `python -m tunesmith_serving STAGE REQUEST` both
end here, where the catalogue tells which function is meant. Whatever happens, `result.json` is
written last and once; a process that ends without it has crashed, and the engine treats it so.
"""

import logging
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.catalog import CATALOG
from tunesmith_engine.stages.chosen_settings import with_chosen_settings
from tunesmith_engine.stages.configmap_reporter import reporter_of, write_report
from tunesmith_engine.stages.contracts import (
    Reporter,
    StageFunction,
    StageOutcome,
    StageRequest,
    StageResult,
)
from tunesmith_engine.stages.errors import StageError, is_disk_full
from tunesmith_engine.stages.remote_workspace import run_in_store
from tunesmith_engine.stages.stage import Catalog
from tunesmith_engine.stages.termination_message import crash_message

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2


def main(arguments: Sequence[str], *, catalog: Catalog = CATALOG) -> int:
    """Run the stage that the first argument names with the request file that the second names.

    Return the exit code.
    """
    name, path = arguments
    logging.basicConfig(
        level=logging.INFO,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    request = StageRequest.model_validate_json(Path(path).read_text(encoding="utf-8"))
    return run_stage(_imported_late(catalog[name].function), request)


def _imported_late(function: str) -> StageFunction:
    """The stage's function, which is imported when it is called.

    A library that cannot be loaded then ends the stage with a result, as any other crash does, and
    `prepare` pays neither for Ray nor for PEFT.
    """

    def run(request: StageRequest, reporter: Reporter) -> StageOutcome:
        stage: StageFunction = resolve_name(function)
        return stage(request, reporter)

    return run


def run_stage(stage: StageFunction, request: StageRequest) -> int:
    """Run `stage`, write its result, and return the exit code."""
    started = time.monotonic()
    reporter = reporter_of(request)
    Path(request.output).mkdir(parents=True, exist_ok=True)
    try:
        outcome = _outcome(stage, with_chosen_settings(request), reporter)
        result = _succeeded(request, outcome)
    except StageError as error:
        print(f"{error.reason}: {error.message}", file=sys.stderr)
        result = _failed(request, error)
    except Exception as error:  # noqa: BLE001 - a defect, too, leaves a result behind
        traceback.print_exc()
        result = _crashed(request, error)
    # NB: last, and atomically. The engine takes a stage whose result is there as done, and all that
    # it promises must lie on disk or in the store by then.
    result = result.model_copy(update={"seconds": round(time.monotonic() - started, 3)})
    write_report(request.result, result.model_dump_json(by_alias=True, indent=1))
    return _exit_code(result)


def _outcome(stage: StageFunction, request: StageRequest, reporter: Reporter) -> StageOutcome:
    if request.store is None:
        return stage(request, reporter)
    return run_in_store(stage, request, reporter, uri=request.store)


def _succeeded(request: StageRequest, outcome: StageOutcome) -> StageResult:
    return StageResult(
        stage=request.stage,
        key=request.key,
        attempt=request.attempt,
        outcome="Succeeded",
        reason=Reason.SUCCEEDED,
        message=outcome.message,
        **_findings(outcome),
    )


def _failed(request: StageRequest, error: StageError) -> StageResult:
    return StageResult(
        stage=request.stage,
        key=request.key,
        attempt=request.attempt,
        outcome="Failed",
        reason=error.reason,
        message=error.message,
        retryable=error.retryable,
        bad_input=error.bad_input,
        **(_findings(error.findings) if error.findings else {}),
    )


def _findings(outcome: StageOutcome) -> dict[str, Any]:
    return {
        field.name: getattr(outcome, field.name)
        for field in fields(outcome)
        if field.name != "message"
    }


def _crashed(request: StageRequest, error: Exception) -> StageResult:
    reason = _reason_of(error)
    return StageResult(
        stage=request.stage,
        key=request.key,
        attempt=request.attempt,
        outcome="Failed",
        reason=reason,
        # Retried: a library that fails now may not fail on the next attempt. The same crash at the
        # same step twice is final all the same (`lifecycle/retry_policy.py`).
        message=crash_message(error),
        retryable=True,
    )


def _reason_of(error: BaseException) -> Reason:
    if is_disk_full(error):
        return Reason.DISK_FULL
    if isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY
    return Reason.STAGE_CRASHED


def _exit_code(result: StageResult) -> int:
    if result.outcome == "Succeeded":
        return EXIT_DONE
    return EXIT_BAD_INPUT if result.bad_input else EXIT_FAILED

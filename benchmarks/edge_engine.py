"""One format's side of `edge_formats`, in the environment edge; prints JSON."""

import json
import os
import sys
import tempfile
from pathlib import Path

from tokenizers import Tokenizer

from tunesmith_trainer.export.processes import run_python

NUM_TOKENS = 64


def main(name: str, folder: Path, model: Path, data: Path, num_prompts: int) -> dict[str, float]:
    """What the worker of the stage `export` finds."""
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    lines = (data / "validation.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["prompt"] for line in lines[:num_prompts] if line]
    asked = {
        "format": name,
        "folder": str(folder),
        "prompts": [tokenizer.encode(text, add_special_tokens=False).ids for text in texts],
        "num_tokens": NUM_TOKENS,
        "texts": [],
        "rows": [],
        "threads": len(os.sched_getaffinity(0)),
    }
    with tempfile.TemporaryDirectory() as place:
        question, told = Path(place) / "asked.json", Path(place) / "found.json"
        question.write_text(json.dumps(asked), encoding="utf-8")
        arguments = ["-m", "tunesmith_trainer.export.worker", str(question), str(told)]
        run_python(arguments, cwd=Path(place))
        found = json.loads(told.read_text(encoding="utf-8"))
    return {
        "tokensPerSecond": found["tokens_per_second"],
        "promptTokensPerSecond": found["prompt_tokens_per_second"],
        "peakMemoryMiB": found["peak_memory_bytes"] / (1 << 20),
        "loadSeconds": found["load_seconds"],
    }


if __name__ == "__main__":
    name, folder, model, data, num_prompts = sys.argv[1:]
    print(json.dumps(main(name, Path(folder), Path(model), Path(data), int(num_prompts))))

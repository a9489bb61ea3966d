"""Generation speed of a published version in vLLM; run in the server environment.

`python generate.py FOLDER` prints one JSON object as its last line.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tunesmith_serving.platforms import DISTRIBUTIONS
from tunesmith_serving.settings import ServingSettings

NUM_PROMPTS = 64
NUM_TOKENS = 64
REPETITIONS = 3
TOPICS = ("printer", "screen", "keyboard", "network", "password", "battery", "mouse", "camera")


def main(folder: Path) -> dict[str, Any]:
    """Answer the same prompts several times, after one time to warm up."""
    text = (folder / "serving.json").read_text(encoding="utf-8")
    settings = ServingSettings.model_validate_json(text)
    os.environ.update(settings.environment())
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(folder), **settings.engine_arguments())
    parameters = SamplingParams(temperature=0, max_tokens=NUM_TOKENS, ignore_eos=True)
    prompts = [
        f"Problem {number}: my {TOPICS[number % len(TOPICS)]} does not work."
        for number in range(NUM_PROMPTS)
    ]
    speeds = []
    for _ in range(1 + REPETITIONS):
        started = time.monotonic()
        llm.generate(prompts, parameters, use_tqdm=False)
        speeds.append(NUM_PROMPTS * NUM_TOKENS / (time.monotonic() - started))
    return {
        "tokensPerSecond": speeds[1:],
        "settings": settings.model_dump(mode="json", by_alias=True),
        "vllm": version(DISTRIBUTIONS[settings.platform]),
    }


if __name__ == "__main__":
    measured = main(Path(sys.argv[1]))
    print(json.dumps(measured))

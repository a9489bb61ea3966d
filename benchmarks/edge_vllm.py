"""vLLM's side of `edge_formats`, in the server's environment; prints JSON."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Literal

from tunesmith_serving.settings import ServingSettings

NUM_TOKENS = 64


def main(
    folder: Path, data: Path, num_prompts: int, dtype: Literal["bfloat16", "float32"]
) -> dict[str, float]:
    """One prompt at a time, all 64 tokens of each; memory of all of vLLM's processes."""
    settings = ServingSettings(
        model="measured", dtype=dtype, enforce_eager=True, max_model_length=1024, max_requests=1
    )
    os.environ.update(settings.environment())
    from vllm import LLM, SamplingParams

    started = time.perf_counter()
    llm = LLM(model=str(folder), **settings.engine_arguments())
    loaded = time.perf_counter() - started
    tokenizer = llm.get_tokenizer()
    lines = (data / "validation.jsonl").read_text(encoding="utf-8").split("\n")
    texts = [json.loads(line)["prompt"] for line in lines[:num_prompts] if line]
    prompts = [tokenizer(text, add_special_tokens=False).input_ids for text in texts]
    seconds = {}
    for length in (1, NUM_TOKENS):
        greedy = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        llm.generate([{"prompt_token_ids": prompts[0]}], greedy, use_tqdm=False)
        # NB: the cache of prompts would answer the second round's from the first.
        llm.reset_prefix_cache()
        begun = time.perf_counter()
        for ids in prompts:
            llm.generate([{"prompt_token_ids": ids}], greedy, use_tqdm=False)
        seconds[length] = time.perf_counter() - begun
        llm.reset_prefix_cache()
    of_answers = seconds[NUM_TOKENS] - seconds[1]
    return {
        "tokensPerSecond": len(prompts) * (NUM_TOKENS - 1) / of_answers,
        "promptTokensPerSecond": sum(map(len, prompts)) / seconds[1],
        "peakMemoryMiB": _peak_of_tree(os.getpid()) / 1024,
        "loadSeconds": loaded,
    }


def _peak_of_tree(pid: int) -> int:
    """KiB of the process and all below it, each at its own peak."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    own = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return int(own.split()[1]) + sum(_peak_of_tree(int(child)) for child in below)


if __name__ == "__main__":
    folder, data, num_prompts, dtype = sys.argv[1:]
    chosen: Literal["bfloat16", "float32"] = "bfloat16" if dtype == "bfloat16" else "float32"
    print(json.dumps(main(Path(folder), Path(data), int(num_prompts), chosen)))

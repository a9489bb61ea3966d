"""vLLM's side of `generation`, in the server's environment; prints JSON."""

import json
import os
import sys
import time
from pathlib import Path

from tunesmith_serving.settings import ServingSettings


def main(model_folder: Path, data: Path, num_prompts: int, max_new_tokens: int) -> dict[str, float]:
    """Tokens a second, after a short answer to warm up."""
    settings = ServingSettings(
        model="measured",
        dtype="float32",
        enforce_eager=True,
        max_model_length=1024,
        max_requests=num_prompts,
    )
    os.environ.update(settings.environment())
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(model_folder), **settings.engine_arguments())
    lines = (data / "train.jsonl").read_text(encoding="utf-8").split("\n")[:num_prompts]
    tokenizer = llm.get_tokenizer()
    texts = [json.loads(line)["prompt"] for line in lines]
    prompts = [
        {"prompt_token_ids": tokenizer(text, add_special_tokens=False).input_ids} for text in texts
    ]
    llm.generate(prompts[:2], SamplingParams(temperature=0.0, max_tokens=2), use_tqdm=False)
    greedy = SamplingParams(temperature=0.0, max_tokens=max_new_tokens)
    started = time.monotonic()
    answers = llm.generate(prompts, greedy, use_tqdm=False)
    seconds = time.monotonic() - started
    num_tokens = sum(len(answer.outputs[0].token_ids) for answer in answers)
    return {"tokensPerSecond": num_tokens / seconds, "seconds": seconds}


if __name__ == "__main__":
    model_folder, data, *numbers = sys.argv[1:]
    print(json.dumps(main(Path(model_folder), Path(data), *map(int, numbers))))

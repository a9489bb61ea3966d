"""One load of vLLM for `served_adapters`, in the server's environment; prints JSON."""

import json
import os
import sys
from pathlib import Path
from typing import Any, Literal

from tunesmith_serving.settings import ServingSettings
from tunesmith_trainer.data.token_rows import TokenRows


def main(
    folder: Path, rows_file: Path, dtype: Literal["bfloat16", "float32"], adapter: Path | None
) -> dict[str, float]:
    """Nats per target token of the model in `folder`, and with the adapter where one is given."""
    settings = ServingSettings(
        model="measured", dtype=dtype, enforce_eager=True, max_model_length=512, max_requests=1
    )
    os.environ.update(settings.environment())
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    # NB: one request at a time, or prompt_logprobs beside adapters end the engine (docs/log.md).
    llm = LLM(
        model=str(folder),
        enable_lora=adapter is not None,
        enable_prefix_caching=False,
        **settings.engine_arguments(),
    )
    rows = TokenRows.load(rows_file)
    losses = {"base": _loss(llm, rows, None)}
    if adapter is not None:
        losses["adapter"] = _loss(llm, rows, LoRARequest("adapter", 1, str(adapter)))
    return losses


def _loss(llm: Any, rows: TokenRows, adapter: Any) -> float:
    from vllm import SamplingParams

    parameters = SamplingParams(temperature=0, max_tokens=1, prompt_logprobs=0)
    total = 0.0
    for number in range(len(rows)):
        ids, trained = rows.row(number)
        prompt = {"prompt_token_ids": ids.tolist()}
        (answer,) = llm.generate(prompt, parameters, lora_request=adapter, use_tqdm=False)
        total -= sum(
            answer.prompt_logprobs[place][int(ids[place])].logprob
            for place in trained.nonzero()[0].tolist()
        )
    return total / rows.num_targets


if __name__ == "__main__":
    folder, rows_file, dtype, *adapter = sys.argv[1:]
    measured = main(
        Path(folder),
        Path(rows_file),
        "float32" if dtype == "float32" else "bfloat16",
        Path(adapter[0]) if adapter else None,
    )
    print(json.dumps(measured))

"""vLLM's side of `quantized_roofline`, in the server's environment; prints JSON.

`python quantized_roofline_run.py FOLDER`: the model in vLLM, its decoding steps, the products of
its quantizable layers by vLLM's own kernels, and what memory and processor can do at best.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tunesmith_serving.platforms import DISTRIBUTIONS
from tunesmith_serving.settings import ServingSettings

BATCHES: Final = (1, 8, 32, 64)
SHORT: Final = 8
LONG: Final = 40
REPETITIONS: Final = 5
# A product large enough for the processor to reach its best rate in.
SQUARE: Final = 2048
# More than any cache holds.
STREAM_BYTES: Final = 1 << 29


def main(folder: Path) -> dict[str, Any]:
    """Milliseconds by batch size, bytes and number of the quantizable weights, and best rates."""
    settings = ServingSettings(
        model="measured",
        dtype="bfloat16",
        enforce_eager=True,
        max_model_length=256,
        max_requests=max(BATCHES),
    )
    os.environ.update(settings.environment())
    from vllm import LLM

    llm = LLM(model=str(folder), **settings.engine_arguments())
    steps = {batch: _step_ms(llm, batch) for batch in BATCHES}
    (products,) = llm.apply_model(_products)
    return {
        "steps": steps,
        **products,
        "gigabytesPerSecond": _stream(),
        "vllm": version(DISTRIBUTIONS["cpu"]),
    }


def _step_ms(llm: Any, batch: int) -> float:
    """Of one more token for every request: the prompts' part is in both lengths, and falls out."""
    from vllm import SamplingParams

    prompts = [{"prompt_token_ids": [1, 10 + number, 20, 30]} for number in range(batch)]

    def seconds(length: int) -> float:
        greedy = SamplingParams(temperature=0.0, max_tokens=length, ignore_eos=True)
        return _shortest(lambda: llm.generate(prompts, greedy, use_tqdm=False))

    return 1000 * (seconds(LONG) - seconds(SHORT)) / (LONG - SHORT)


def _products(model: Any) -> dict[str, Any]:
    """All layers one after another, so that their weights come from memory as in a step."""
    import torch
    from vllm.model_executor.layers.linear import LinearBase

    layers = [layer for layer in model.modules() if isinstance(layer, LinearBase)]
    sizes = [(layer.input_size_per_partition, layer.output_size_per_partition) for layer in layers]
    num_weights = sum(rows * columns for rows, columns in sizes)
    is_quantized = type(layers[0].quant_method).__name__ != "UnquantizedLinearMethod"

    def milliseconds(batch: int) -> float:
        rows = {size: torch.randn(batch, size, dtype=torch.bfloat16) for size, _ in sizes}

        def once() -> None:
            for layer, (size, _) in zip(layers, sizes, strict=True):
                layer.quant_method.apply(layer, rows[size])

        return 1000 * _shortest(once)

    with torch.inference_mode():
        products = {batch: milliseconds(batch) for batch in BATCHES}
        rate = _int8_rate() if is_quantized else _bf16_rate()
    return {
        "products": products,
        "weights": num_weights,
        "bytes": num_weights * (1 if is_quantized else 2),
        "gigaflops": rate,
    }


def _bf16_rate() -> float:
    import torch
    from vllm import _custom_ops as ops

    left, right = (torch.randn(SQUARE, SQUARE, dtype=torch.bfloat16) for _ in range(2))
    handler = ops.create_onednn_mm(right, 32)
    return _rate(lambda: ops.onednn_mm(handler, left, None))


def _int8_rate() -> float:
    """Without the quantization of what goes in: the product alone is what is bounded."""
    import torch
    from vllm import _custom_ops as ops

    left, right = (torch.randint(-128, 127, (SQUARE, SQUARE), dtype=torch.int8) for _ in range(2))
    scales = torch.ones(SQUARE, 1)
    handler = ops.create_onednn_scaled_mm(
        right.t(),
        torch.ones(1, SQUARE),
        torch.bfloat16,
        dynamic_quant=True,
        use_azp=False,
        primitive_cache_size=32,
    )
    out = torch.empty(SQUARE, SQUARE, dtype=torch.bfloat16)
    return _rate(lambda: ops.onednn_scaled_mm(handler, left, out, scales, None, None, None))


def _rate(product: Callable[[], object]) -> float:
    """In thousand millions of operations a second."""
    return float(2 * SQUARE**3 / _shortest(product) / 1e9)


def _stream() -> float:
    """Gigabytes a second that are read from memory, by all cores."""
    import torch

    numbers = torch.ones(STREAM_BYTES // 8, dtype=torch.int64)
    return STREAM_BYTES / _shortest(numbers.max) / 1e9


def _shortest(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, after one to warm up."""
    work()
    times = []
    for _ in range(REPETITIONS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))

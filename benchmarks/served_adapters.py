"""What vLLM keeps of an adapter: applied at run time in bf16 and in fp32, and merged into the base.

The same held-out rows, the same adapter after a few steps, whose updates are small. The truth is
transformers in fp32; the merged weights are those that the compress stage writes.
"""

from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script
from training_throughput import demo_job


def measure(home: Path) -> dict[str, Any]:
    """Held-out losses in nats, and of what the adapter has learnt the part that each keeps."""
    outcome = run_job(demo_job(home, seed=0), home=home, until="train")
    model, data, tuned = (artifact(outcome, name) for name in ("model", "data", "tuned"))
    rows, merged = data / "validation.safetensors", home / "served-adapters-merged"
    exact = run_script("trainer", "served_adapters_exact.py", model, tuned, rows, merged)
    served = {
        "adapterBf16": _served(model, rows, "bfloat16", tuned),
        "adapterFp32": _served(model, rows, "float32", tuned),
        "mergedBf16": _served(merged, rows, "bfloat16"),
    }
    bases = {"bfloat16": served["adapterBf16"]["base"], "float32": served["adapterFp32"]["base"]}
    losses = {
        "adapterBf16": served["adapterBf16"]["adapter"],
        "adapterFp32": served["adapterFp32"]["adapter"],
        "mergedBf16": served["mergedBf16"]["base"],
    }
    learnt = exact["base"] - exact["tuned"]
    return {
        "transformersFp32": exact,
        "vllmBase": bases,
        "vllm": losses,
        "partKept": {
            name: round((bases["float32" if "Fp32" in name else "bfloat16"] - loss) / learnt, 3)
            for name, loss in losses.items()
        },
    }


def _served(folder: Path, rows: Path, dtype: str, *adapter: Path) -> dict[str, Any]:
    return run_script("server", "served_adapters_run.py", folder, rows, dtype, *adapter)

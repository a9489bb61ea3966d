"""Why a quantized model is, or is not, faster in vLLM on this processor: a roofline of its steps.

After Williams, Waterman and Patterson 2009 (CACM 52(4)): no product of weights is done before its
bytes have come from memory, nor before its operations are done at the processor's best rate. What
quantization can bring is then bounded by the part of a step that these products take (Amdahl): the
rest of the step, and the head, which is not quantized, stay as they are.

SmolLM2-135M after two steps of training, as W8A8 and in bfloat16, decodes for up to 64 requests.
"""

from pathlib import Path
from typing import Any, Final

import yaml
from commands import ROOT, artifact, run_job, run_script

_JOB: Final = ROOT / "examples" / "helpdesk" / "job.yaml"
PLAIN: Final = "none"
QUANTIZED: Final = "W8A8"
# Each is loaded so often, in turns: what else the machine does meanwhile meets both.
LOADS: Final = 2


def measure(home: Path) -> dict[str, Any]:
    """Per batch size the seconds of a step, of its products, their roof, and what could be won."""
    folders = {scheme: _compressed(home, scheme) for scheme in (PLAIN, QUANTIZED)}
    loads = [
        {
            scheme: run_script("server", "quantized_roofline_run.py", folder)
            for scheme, folder in folders.items()
        }
        for _ in range(LOADS)
    ]
    plain, quantized = (_fastest([load[scheme] for load in loads]) for scheme in (PLAIN, QUANTIZED))
    machine = {
        "gigabytesPerSecond": max(one["gigabytesPerSecond"] for one in (plain, quantized)),
        "gigaflopsBf16": plain["gigaflops"],
        "gigaopsInt8": quantized["gigaflops"],
    }
    return {
        "unit": "milliseconds a step of decoding, the fastest of all; all cores, eager",
        "machine": machine,
        "bytesOfProducts": {PLAIN: plain["bytes"], QUANTIZED: quantized["bytes"]},
        "batches": {
            batch: _bound(plain, quantized, batch=batch, machine=machine)
            for batch in plain["steps"]
        },
        "vllm": plain["vllm"],
    }


def _compressed(home: Path, scheme: str) -> Path:
    manifest = yaml.safe_load(_JOB.read_text(encoding="utf-8"))
    manifest["metadata"]["name"] = "roofline"  # NB: one job, so that both come from one training
    spec = manifest["spec"]
    spec["training"] |= {"epochs": 1, "evaluateEverySteps": 1}
    spec["evaluation"]["gates"] = [{"suite": "heldOut", "metric": "loss", "maxDelta": 100.0}]
    spec["compression"]["quantize"]["scheme"] = scheme
    path = home / f"roofline-{scheme.lower()}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return artifact(run_job(path, home=home, until="compress"), "compressed")


def _fastest(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of several loads the shortest times and the highest rates: nothing computes too fast."""
    batches = runs[0]["steps"]
    return runs[0] | {
        "gigabytesPerSecond": max(run["gigabytesPerSecond"] for run in runs),
        "gigaflops": max(run["gigaflops"] for run in runs),
        "steps": {batch: min(run["steps"][batch] for run in runs) for batch in batches},
        "products": {batch: min(run["products"][batch] for run in runs) for batch in batches},
    }


def _bound(
    plain: dict[str, Any], quantized: dict[str, Any], *, batch: str, machine: dict[str, float]
) -> dict[str, float]:
    """What quantization brings at a batch size, and the most that it could."""
    step, products = plain["steps"][batch], plain["products"][batch]
    from_memory = quantized["bytes"] / machine["gigabytesPerSecond"] / 1e6
    # Two operations, a product and a sum, for each weight and request.
    computed = 2 * plain["weights"] * int(batch) / machine["gigaopsInt8"] / 1e6
    roof = max(from_memory, computed)
    ours = quantized["products"][batch]
    return {
        "bf16Step": round(step, 2),
        "bf16Products": round(products, 2),
        "W8A8Step": round(quantized["steps"][batch], 2),
        "W8A8Products": round(ours, 2),
        "W8A8ProductsRoof": round(roof, 2),
        "isBoundByMemory": from_memory > computed,
        "ratio": round(step / quantized["steps"][batch], 3),
        "ratioAtRoof": round(step / (step - products + roof), 3),
        "ratioIfProductsWereFree": round(step / (step - products), 3),
    }

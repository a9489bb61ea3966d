"""What each way of rounding weights costs: loss, divergence, bytes and seconds of one tuned model.

The job of `examples/smalltalk` with half of its steps; training is done once, and `compress` again
for each way, without falling back. Losses are of the held-out rows, in transformers and fp32.
"""

from pathlib import Path
from typing import Any, Final

import yaml
from commands import ROOT, facts, run_job

_JOB: Final = ROOT / "examples" / "smalltalk" / "job.yaml"
_STEPS: Final = 40
WAYS: Final[dict[str, dict[str, Any]]] = {
    "W8A8": {"scheme": "W8A8"},
    "W4A16 rtn": {"scheme": "W4A16", "algorithm": "rtn"},
    "W4A16 gptq": {"scheme": "W4A16", "algorithm": "gptq"},
    "W4A16 awq": {"scheme": "W4A16", "algorithm": "awq"},
    "W4A16 autoRound": {"scheme": "W4A16", "algorithm": "autoRound"},
    "W4A16 gptq, 4 layers kept": {"scheme": "W4A16", "algorithm": "gptq", "keepLayers": 4},
}


def measure(home: Path) -> dict[str, Any]:
    """Each way with what it kept of the loss, its divergence, its bytes, and its seconds."""
    found = {}
    for name, quantize in WAYS.items():
        job = yaml.safe_load(_JOB.read_text(encoding="utf-8"))
        job["metadata"]["name"] = "rounding"
        job["spec"]["training"]["maxSteps"] = _STEPS
        # All are to be measured, whatever they lose.
        gate = {"minRecovery": 0.01, "maxKl": 100.0, "fallback": "fail"}
        job["spec"]["compression"] = {"quantize": quantize, "gate": gate}
        path = home / "rounding.yaml"
        path.write_text(yaml.safe_dump(job), encoding="utf-8")
        compressed = facts(home, run_job(path, home=home, until="compress"), "compress")
        found[name] = compressed["tries"][-1] | {"mergedBytes": compressed["mergedBytes"]}
    return found

"""Explanations: how often a planted word is found, how exact, and captum's own on the same prompts.

The planted model lies in `tests/support`; captum's `LLMAttribution` takes the same words of the
same prompts out of the 135M model, one forward pass a coalition.
"""

import sys
from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script
from training_throughput import demo_job


def measure(home: Path) -> dict[str, Any]:
    """Ranks, errors, passes and seconds."""
    model = artifact(run_job(demo_job(home, seed=0), home=home, until="prepare"), "model")
    told = {"planted": run_script("trainer", "explanation_run.py", "planted")}
    print(f"bench: explanation: {told}", file=sys.stderr)
    return told | run_script("trainer", "explanation_run.py", "captum", model)

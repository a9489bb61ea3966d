"""Explanations: how often a planted word is found, how exact, and captum's own on the same prompts.

The planted model lies in `tests/support`; captum's `LLMAttribution` takes the same words of the
same prompts out of the 135M model, one forward pass a coalition; shap's `PartitionExplainer` those
of the planted one.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script
from training_throughput import demo_job

# MIT; its PartitionExplainer and its masker of text.
SHAP = "shap==0.51.0"


def measure(home: Path) -> dict[str, Any]:
    """Ranks, errors, passes and seconds."""
    model = artifact(run_job(demo_job(home, seed=0), home=home, until="prepare"), "model")
    told = {"planted": run_script("trainer", "explanation_run.py", "planted")}
    print(f"bench: explanation: {told}", file=sys.stderr)
    told["shap"] = run_script("trainer", "explanation_run.py", "shap", _shap(home))
    print(f"bench: explanation: {told['shap']}", file=sys.stderr)
    return told | run_script("trainer", "explanation_run.py", "captum", model)


def _shap(home: Path) -> Path:
    """Python with shap, in an environment of its own."""
    environment, uv = home / "shap", str(Path(sys.executable).with_name("uv"))
    if not (environment / "bin/python").exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", environment], check=True)
        install: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", environment]
        subprocess.run([*install, SHAP], check=True)
    return environment / "bin/python"

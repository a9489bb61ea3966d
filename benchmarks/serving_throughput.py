"""Serving speed and score: the quantized model against the same tuned model in bfloat16, in vLLM.

Both are made by the help-desk job from the same training run, and served with the settings that the
verify stage proved. Each is loaded twice, alternately; within a load the same prompts are answered
several times. The score is the held-out loss, as the job's own compress stage measured it.
"""

from pathlib import Path
from typing import Any

import yaml
from commands import ROOT, artifact, facts, run_job, run_script, summary

JOB = ROOT / "examples" / "helpdesk" / "job.yaml"
SCHEMES = ("none", "W8A8")
LOADS = 2


def measure(home: Path) -> dict[str, Any]:
    """Tokens per second of both schemes, their ratio, and how much of the score is kept."""
    outcomes = {scheme: run_job(_job(home, scheme=scheme), home=home) for scheme in SCHEMES}
    speeds: dict[str, list[float]] = {scheme: [] for scheme in SCHEMES}
    last: dict[str, Any] = {}
    for _ in range(LOADS):
        for scheme in SCHEMES:
            folder = artifact(outcomes[scheme], "version")
            last[scheme] = run_script("server", "generate.py", folder)
            speeds[scheme] += last[scheme]["tokensPerSecond"]
    bf16, w8a8 = summary(speeds["none"]), summary(speeds["W8A8"])
    return {
        "unit": "generated tokens/s, 64 prompts of 64 new tokens",
        "bf16Weights": bf16,
        "W8A8": w8a8,
        "ratio": round(w8a8["median"] / bf16["median"], 3),
        "heldOutLoss": {scheme: _loss(outcomes[scheme]) for scheme in SCHEMES},
        "settings": {scheme: last[scheme]["settings"] for scheme in SCHEMES},
        "kernels": {scheme: _kernel(home, outcomes[scheme]) for scheme in SCHEMES},
        "vllm": last["W8A8"]["vllm"],
    }


def _job(home: Path, *, scheme: str) -> Path:
    manifest = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    manifest["metadata"]["name"] = "serving"  # NB: one job, so that both come from one training
    manifest["spec"]["compression"]["quantize"]["scheme"] = scheme
    manifest["spec"]["output"]["model"] = f"serving-{scheme.lower()}"
    path = home / f"serving-{scheme.lower()}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path


def _kernel(home: Path, outcome: dict[str, Any]) -> str:
    return str(facts(home, outcome, "verify")["kernel"])


def _loss(outcome: dict[str, Any]) -> float:
    return next(
        float(each["value"])
        for each in outcome["evaluation"]
        if (each["suite"], each["metric"], each["split"]) == ("heldOut", "loss", "compressed")
    )

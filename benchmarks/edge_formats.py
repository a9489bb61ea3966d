"""Formats for devices beside vLLM on a processor: one conversation at a time, the same prompts.

A job tunes the 135M model, writes every format, and publishes it in bf16. Each engine then answers
in a process of its own, in turn: tokens a second, of a prompt and of an answer, and memory.
"""

from pathlib import Path
from typing import Any

import yaml
from commands import ROOT, artifact, facts, run_job, run_script, summary

JOB = ROOT / "examples" / "smalltalk" / "job.yaml"
FORMATS = (
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int4"),
    ("gguf", "F16"),
    ("gguf", "Q8_0"),
    ("gguf", "Q4_0"),
    ("litert", "fp32"),
    ("litert", "int8"),
)
VLLM = {"vllmBf16": "bfloat16", "vllmFp32": "float32"}
ROUNDS = 3
NUM_PROMPTS = 8
_SPEEDS = ("tokensPerSecond", "promptTokensPerSecond", "peakMemoryMiB", "loadSeconds")


def measure(home: Path) -> dict[str, Any]:
    """Speed and memory of every engine, and what each format kept of the tuned model."""
    outcome = run_job(_job(home), home=home)
    version, data = artifact(outcome, "version"), artifact(outcome, "data")
    runs: dict[str, list[dict[str, float]]] = {}
    for _ in range(ROUNDS):
        for name, precision in FORMATS:
            folder = version / "exports" / f"{name}-{precision}"
            found = run_script(
                "edge", "edge_engine.py", name, folder, version, data, str(NUM_PROMPTS)
            )
            runs.setdefault(folder.name, []).append(found)
        for name, dtype in VLLM.items():
            found = run_script("server", "edge_vllm.py", version, data, str(NUM_PROMPTS), dtype)
            runs.setdefault(name, []).append(found)
    return {
        "unit": f"one of {NUM_PROMPTS} prompts at a time, 64 new tokens",
        "engines": {
            name: {speed: summary([run[speed] for run in rounds]) for speed in _SPEEDS}
            for name, rounds in runs.items()
        },
        "kept": facts(home, outcome, "export")["formats"],
    }


def _job(home: Path) -> Path:
    manifest = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    manifest["metadata"]["name"] = "edge"
    spec = manifest["spec"]
    spec["output"]["model"] = "edge"
    spec["compression"] = {"quantize": {"scheme": "none"}}
    formats = [{"format": name, "precision": precision} for name, precision in FORMATS]
    # Told, not judged: what each loses is one of the findings.
    spec["export"] = {"formats": formats, "gate": {"maxLossRise": 10.0}}
    path = home / "edge.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path

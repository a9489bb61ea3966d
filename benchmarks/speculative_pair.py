"""What a distilled draft brings its model of 135 million parameters, in vLLM on this machine.

The job of the demo, tuned for fewer steps and not quantized, with a draft that is cut out of the
tuned model and taught by it. `verify` measures the pair beside the model alone, on prompts that are
held out: the part of guesses that are taken, tokens/s of one request and of eight. Another number
of guesses repeats `verify` alone.
"""

from pathlib import Path
from typing import Any, Final

import yaml
from commands import ROOT, facts, run_job

JOB: Final = ROOT / "examples" / "smalltalk" / "job.yaml"
TOKENS: Final = (3, 1)
STEPS: Final = 20
DRAFT_STEPS: Final = 60


def measure(home: Path) -> dict[str, Any]:
    """The draft's own losses, and what `verify` says of each number of guesses."""
    folder = home.resolve() / "speculative-pair"
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = {tokens: _run(folder, tokens=tokens) for tokens in TOKENS}
    home = folder / "home"
    drafted = facts(home, outcomes[TOKENS[0]], "draft")
    return {
        "unit": "generated tokens/s, slowest, median and fastest of five rounds",
        "draft": {
            "shape": drafted["shape"]["after"],
            "ladder": drafted["ladder"],
            "steps": drafted["numSteps"],
            "tokens": drafted["tokens"],
            "seconds": drafted["seconds"],
        },
        "guessing": {
            str(tokens): facts(home, outcome, "verify")["guessing"]
            for tokens, outcome in outcomes.items()
        },
        "vllm": facts(home, outcomes[TOKENS[0]], "verify")["vllmVersion"],
    }


def _run(folder: Path, *, tokens: int) -> dict[str, Any]:
    manifest = yaml.safe_load(JOB.read_text(encoding="utf-8"))
    spec = manifest["spec"]
    spec["training"] |= {"maxSteps": STEPS, "evaluateEverySteps": STEPS}
    spec["evaluation"] = {"generation": {"metric": "none"}}
    spec["compression"] = {"quantize": {"scheme": "none"}}
    spec["verification"] = {"measureSpeed": True}
    draft = {"recovery": {"maxSteps": DRAFT_STEPS}}
    spec["serving"] = {
        "speculative": {"method": "draftModel", "tokens": tokens, "draft": draft},
    }
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return run_job(path, home=folder / "home", until="verify")

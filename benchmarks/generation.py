"""Answers for metrics: our batched greedy generation beside vLLM's offline engine, on a processor.

The same prompts of real dialogues, the same longest answer, in processes of their own; loading is
not counted. vLLM fills a place in the batch as soon as a row has ended, ours goes on until the
longest row of a batch has: that is the price that this measures.
"""

from pathlib import Path
from typing import Any

from commands import artifact, run_job, run_script, summary
from training_throughput import demo_job

ROUNDS = 3
NUM_PROMPTS = 48
MAX_NEW_TOKENS = 64


def measure(home: Path) -> dict[str, Any]:
    """Seconds and tokens of both sides, in turn, and by how much ours is slower."""
    outcome = run_job(demo_job(home, seed=0), home=home, until="prepare")
    words = (
        artifact(outcome, "model"),
        artifact(outcome, "data"),
        str(NUM_PROMPTS),
        str(MAX_NEW_TOKENS),
    )
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(run_script("trainer", "generation_ours.py", *words))
        theirs.append(run_script("server", "generation_vllm.py", *words))
    return {
        "prompts": NUM_PROMPTS,
        "maxNewTokens": MAX_NEW_TOKENS,
        "dtype": "float32",
        "tunesmith": summary([run["tokensPerSecond"] for run in ours]),
        "vllm": summary([run["tokensPerSecond"] for run in theirs]),
        "slower": summary(
            [
                peer["tokensPerSecond"] / run["tokensPerSecond"]
                for run, peer in zip(ours, theirs, strict=True)
            ]
        ),
    }

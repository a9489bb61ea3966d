"""A finished job with a search before its training, written as the stage writes it."""

import math
import random
from pathlib import Path

from job_folders import JobFolder, a_finished_job, add_stage
from tunesmith_engine.stages.digests import artifact_of
from tunesmith_engine.stages.trial_records import (
    TRIALS,
    TrialOrigin,
    TrialRecord,
    TrialsFile,
    TrialState,
)

RATE = "training.optimizer.learningRate"


def some_trials(num: int = 20, *, two_objectives: bool = True) -> list[TrialRecord]:
    """Trials whose loss is lowest at a rate of 3e-4; the first and the third come from memory."""
    chance = random.Random(20)
    trials = []
    for number in range(num):
        rate = 10 ** chance.uniform(-5, -2)
        rank = chance.choice([4, 8, 16, 32])
        loss = 1.5 + 0.4 * (math.log10(rate) + 3.5) ** 2 + 0.2 / rank + chance.uniform(0, 0.05)
        state: TrialState = (
            "failed" if number == 7 else "pruned" if number % 6 == 5 else "completed"
        )
        objectives = {"heldOutLoss": loss, "trainableParameters": 250_000.0 * rank}
        trials.append(
            TrialRecord(
                number=number,
                parameters={
                    RATE: rate,
                    "training.lora.rank": rank,
                    "training.schedule.type": chance.choice(["cosine", "wsd"]),
                    "training.optimizer.weightDecay": chance.uniform(0, 0.1),
                },
                state=state,
                reason="OutOfMemory" if state == "failed" else "",
                objectives={}
                if state == "failed"
                else dict(list(objectives.items())[: 2 if two_objectives else 1]),
                seconds=30.0 + number,
                origin=TrialOrigin(kind="memory", source_job="helpdesk-old")
                if number in {0, 2}
                else TrialOrigin(),
            )
        )
    return trials


def a_searched_job(home: Path, trials: list[TrialRecord], *, name: str = "searched") -> JobFolder:
    """The folder of a job that has searched, and then trained."""
    job = a_finished_job(home, name=name)
    path = job.folder / TRIALS
    TrialsFile(trials=trials).write(path)
    add_stage(job, "search", artifacts=[artifact_of(TRIALS, path)])
    return job

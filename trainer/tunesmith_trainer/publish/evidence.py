"""What earlier stages found out, as the version's documents need it."""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import CATALOG, COMPRESS, EVALUATE, PREPARE, TRAIN, VERIFY
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.digests import local_path

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Measures of the tuned and the compressed model, and the facts of each stage.

    `evaluation` is the content of `evaluation.json`: what `evaluate` wrote, and below `compressed`
    what `compress` measured of the model that ships. `serving` is the content of `serving.json`.
    """

    results: list[EvaluationResult]
    evaluation: Json
    serving: Json
    data_card: Json
    prepared: Json
    trained: Json
    compressed: Json
    verified: Json
    warnings: list[str]


def gather_evidence(request: StageRequest) -> Evidence:
    """Read the facts and documents of all earlier stages.

    Raises:
        KeyError: a stage left out what it promises.
        OSError: an artifact is gone.
    """
    facts = {stage: result.facts for stage, result in request.inputs.items()}
    results = all_results(request)
    settings = facts[VERIFY.name]["settings"]
    return Evidence(
        results=results,
        evaluation=_evaluation(request),
        serving=settings if isinstance(settings, dict) else {},
        data_card=_document(request, PREPARE.name, "card"),
        prepared=facts[PREPARE.name],
        trained=facts[TRAIN.name],
        compressed=facts[COMPRESS.name],
        verified=facts[VERIFY.name],
        warnings=[each for stage in CATALOG.names for each in _warnings(request, stage)],
    )


def all_results(request: StageRequest) -> list[EvaluationResult]:
    """Every number that a stage measured, in the order of the stages."""
    return [
        each
        for stage in (EVALUATE.name, COMPRESS.name)
        for each in request.inputs[stage].evaluation
    ]


def _evaluation(request: StageRequest) -> Json:
    measured: list[JsonValue] = [
        each.model_dump(mode="json", by_alias=True)
        for each in request.inputs[COMPRESS.name].evaluation
    ]
    return {**_document(request, EVALUATE.name, "evaluation"), "compressed": measured}


def _document(request: StageRequest, stage: StageName, artifact: str) -> Json:
    path = local_path(request.inputs[stage].artifact(artifact))
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content


def _warnings(request: StageRequest, stage: StageName) -> list[str]:
    result = request.inputs.get(stage)
    return result.warnings if result else []

"""What earlier stages found out, as the documents of a version need it.

`model_card.py` writes it for people, `model_version.py` for clusters, `version_folder.py` as JSON.
"""

import json
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from tunesmith_api.results import EvaluationResult
from tunesmith_engine.stages.catalog import (
    CATALOG,
    COMPRESS,
    DISTILL,
    DRAFT,
    EVALUATE,
    PREPARE,
    TRAIN,
    VERIFY,
)
from tunesmith_engine.stages.contracts import StageName, StageRequest
from tunesmith_engine.stages.digests import local_path

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class VersionFacts:
    """Measures of the tuned and the compressed model, and the facts of each stage.

    `evaluation` is the content of `evaluation.json`: the numbers that `evaluate` wrote, and below
    `compressed` what `compress` measured of the model that ships. `distilled` is empty where
    nothing was pruned, `drafted` where no small model guesses. `serving` is the content of
    `serving.json`.
    """

    results: list[EvaluationResult]
    evaluation: Json
    serving: Json
    data_card: Json
    prepared: Json
    trained: Json
    distilled: Json
    drafted: Json
    compressed: Json
    verified: Json
    warnings: list[str]


def gather_facts(request: StageRequest) -> VersionFacts:
    """Read the facts and documents of all earlier stages.

    Raises:
        KeyError: a stage left out what it promises.
        OSError: an artifact is gone.
    """
    facts = {stage: result.facts for stage, result in request.inputs.items()}
    settings = facts[VERIFY.name]["settings"]
    measured: list[JsonValue] = [
        result.model_dump(mode="json", by_alias=True)
        for result in request.inputs[COMPRESS.name].evaluation
    ]
    # NB: without prompts, references and answers: they are held-out rows, and stay with the job.
    evaluation = _read_json(request, EVALUATE.name, "evaluation")
    evaluation.pop("samples", None)
    return VersionFacts(
        results=all_results(request),
        evaluation={**evaluation, "compressed": measured},
        serving=settings if isinstance(settings, dict) else {},
        data_card=_read_json(request, PREPARE.name, "card"),
        prepared=facts[PREPARE.name],
        trained=facts[TRAIN.name],
        distilled=facts.get(DISTILL.name, {}),
        drafted=facts.get(DRAFT.name, {}),
        compressed=facts[COMPRESS.name],
        verified=facts[VERIFY.name],
        # NB: in the order of the stages, not of the request: the model card shows them, and its
        # text is part of the version's digest.
        warnings=[
            warning
            for stage in CATALOG.names
            if stage in request.inputs
            for warning in request.inputs[stage].warnings
        ],
    )


def all_results(request: StageRequest) -> list[EvaluationResult]:
    """Every number that a stage measured, in the order of the stages."""
    return [
        result
        for stage in CATALOG.names
        if stage in request.inputs
        for result in request.inputs[stage].evaluation
    ]


def _read_json(request: StageRequest, stage: StageName, artifact: str) -> Json:
    path = local_path(request.inputs[stage].artifact(artifact))
    content: Json = json.loads(path.read_text(encoding="utf-8"))
    return content

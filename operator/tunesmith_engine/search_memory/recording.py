"""A finished job as memory keeps it: its task from what prepare found, its trials or its one run.

Only numbers, switches and words that stand in a manifest, and digests: no row and no text of one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, get_args

from pydantic import JsonValue

from tunesmith_api.base import JsonMapping
from tunesmith_api.finetunejob.search import SearchableField
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.json_io import read_json
from tunesmith_engine.search_memory.records import (
    HELD_OUT_LOSS,
    PastJob,
    PastTrial,
    Setting,
    Settings,
    Task,
    plain_settings,
    thinned,
)
from tunesmith_engine.search_memory.spec_space import direction_of
from tunesmith_engine.stages.contracts import StageResult
from tunesmith_engine.stages.digests import digest_json
from tunesmith_engine.stages.trial_records import TrialRecord

_FIELDS: Final = frozenset(get_args(SearchableField))
# Of a digest or a key, as many digits as tell tasks and runs apart.
_DIGITS: Final = 16


def task_of(
    spec: FineTuneJobSpec, prepared: Mapping[str, JsonValue], *, base_loss: float | None = None
) -> Task:
    """The task of a job, as far as it is known; `prepared` are the facts of prepare, or nothing."""
    facts = dict(prepared)
    model = facts.get("modelFacts")
    model = model if isinstance(model, dict) else {}
    rows, tokens = _count(facts.get("numTrainRows")), _count(facts.get("numTrainTokens"))
    digests = [facts.get("dataDigest"), facts.get("modelDigest")]
    training = spec.training
    measure = spec.search.objectives[0].metric if spec.search else HELD_OUT_LOSS
    words = [*digests, training.method, training.objective, measure]
    vocabulary = _count(model.get("vocabSize"))
    return Task(
        # Models of one family share their tokenizer, and hardly any other model has it.
        family=f"vocabulary of {vocabulary}" if vocabulary else "",
        kind=str(facts.get("format") or ""),
        method=training.method,
        objective=training.objective,
        measure=measure,
        direction=direction_of(spec.search) if spec.search else "minimize",
        parameters=_count(model.get("numParameters")),
        tokens=tokens,
        rows=rows,
        mean_row_tokens=tokens / rows if tokens and rows else None,
        base_loss=base_loss,
        digest=digest_json(words).removeprefix("sha256:")[:_DIGITS] if all(digests) else "",
    )


def run_uid(job: str, keys: Mapping[str, str]) -> str:
    """Of a run of a job: its search's where it has one, whose trials are what is remembered.

    `keys` are those of its stages, by name.
    """
    return f"{job} {(keys.get('search') or keys.get('train', ''))[:_DIGITS]}"


def record_of(
    *,
    job: str,
    uid: str,
    finished: datetime,
    spec: FineTuneJobSpec,
    results: Mapping[str, StageResult],
    trials: Sequence[TrialRecord] = (),
) -> PastJob | None:
    """What a finished job leaves to later searches; None where it measured nothing."""
    prepare, train = results.get("prepare"), results.get("train")
    trained = train.facts if train and train.outcome == "Succeeded" else {}
    task = task_of(spec, prepare.facts if prepare else {}, base_loss=_base_loss(trained))
    past = [_past_trial(trial, measure=task.measure) for trial in trials if trial.has_ended]
    settings = {**_settings(spec), **_resolved(trained)}
    if not past:
        value = _number(trained.get("bestHeldOutLoss"))
        if value is None or task.measure != HELD_OUT_LOSS:
            return None
        past = [PastTrial(settings={}, value=value)]
    return PastJob(
        job=job,
        uid=uid,
        finished=finished.isoformat(timespec="seconds"),
        task=task,
        settings=settings,
        trials=thinned(past, direction=task.direction),
    )


def _past_trial(trial: TrialRecord, *, measure: str) -> PastTrial:
    """A trial as it is kept; of one that was ended early, how far it came."""
    value = trial.objectives.get(measure) if trial.state != "failed" else None
    return PastTrial(settings=dict(trial.parameters), value=value)


def _settings(spec: FineTuneJobSpec) -> Settings:
    """What was given or has a default, of the fields that can be searched."""
    training: JsonMapping = spec.training.with_defaults().model_dump(mode="json", by_alias=True)
    return dict(_searchable(plain_settings(training, path="training")))


def _resolved(trained: Mapping[str, JsonValue]) -> Settings:
    """What the job has decided itself, which its facts have as text."""
    told = trained.get("resolved")
    values = {path: _parsed(text) for path, text in told.items()} if isinstance(told, dict) else {}
    plain = ((path, value) for path, value in values.items() if value is not None)
    return dict(_searchable(plain))


def _searchable(settings: Any) -> Iterator[tuple[str, Setting]]:
    return ((path, value) for path, value in settings if path in _FIELDS)


def _parsed(text: JsonValue) -> Setting | None:
    try:
        value = read_json(str(text))
    except ValueError:
        return str(text)
    return value if isinstance(value, bool | int | float | str) else None


def _base_loss(trained: Mapping[str, JsonValue]) -> float | None:
    """The base model's held-out loss: the tuned model's less what it has risen."""
    outcome, best = trained.get("outcome"), _number(trained.get("bestHeldOutLoss"))
    rise = outcome.get("heldOutLossRise") if isinstance(outcome, dict) else None
    risen = _number(rise.get("value")) if isinstance(rise, dict) else None
    return max(best - risen, 0.0) if best is not None and risen is not None else None


def _number(value: JsonValue) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _count(value: JsonValue) -> int | None:
    return value if isinstance(value, int) and value > 0 else None

"""Suites of lm-evaluation-harness (EleutherAI), scored through the model that is loaded anyhow.

The package is an extra, `tunesmith[eval]`. `task_files.py` reads the tasks, the harness builds the
requests and scores them row by row, and the intervals are our bootstrap over its rows, as for
every other number of a job.
"""

import importlib.util
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.evaluation import Bootstrap
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.reasons import Reason
from tunesmith_api.results import EvaluationResult
from tunesmith_engine.sources.errors import SourceError, as_stage_error
from tunesmith_engine.sources.resolver import fetch_folder
from tunesmith_engine.stages.contracts import StageRequest
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.evaluate.bootstrap import bootstrap
from tunesmith_trainer.evaluate.suites import Say
from tunesmith_trainer.evaluate.task_files import read_task

_PACKAGE: Final = "lm_eval"
# The harness holds the logits of a whole batch, twice.
_LOGITS_BYTES: Final = 256 << 20
_FLOAT_BYTES: Final = 4
_MAX_BATCH_ROWS: Final = 16
_SEED: Final = 0
# How far the mean of the rows' scores may lie from the harness's own number, which adds them up in
# another order.
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Task:
    """A suite of the job and the harness's task for it."""

    suite: Suite
    field: str
    task: Any


@dataclass(frozen=True, slots=True)
class TaskScore:
    """One metric of one suite.

    `scores` has one number per row, shape (num_rows,), and is None for metrics that are no mean
    over rows, which then have no interval.
    """

    value: float
    num_rows: int
    scores: NDArray[np.float64] | None


Scores = Mapping[tuple[str, str], TaskScore]


def require_harness(spec: FineTuneJobSpec) -> None:
    """Return if no suite is asked for, or the harness is installed here.

    Raises:
        BadInputError: it is not.
    """
    if spec.evaluation.suites and importlib.util.find_spec(_PACKAGE) is None:
        raise BadInputError(
            Reason.ENVIRONMENT_MISSING,
            "spec.evaluation.suites needs lm-evaluation-harness, which is not installed beside "
            f"{sys.executable}; run pip install 'tunesmith[eval]' there, or use the trainer image "
            "of this release, which holds it.",
        )


def load_tasks(request: StageRequest) -> list[Task]:
    """Fetch the suites' files and let the harness build their tasks; no weights are loaded.

    Raises:
        StageError: a folder cannot be reached, or a task cannot be used; the message says which.
    """
    require_harness(request.spec)
    return [
        _load_task(request, suite, field=f"evaluation.suites[{index}]")
        for index, suite in enumerate(request.spec.evaluation.suites)
    ]


def score_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[Task],
    *,
    sequence_length: int,
    say: Say,
) -> dict[tuple[str, str], TaskScore]:
    """Every metric of every suite, by the names of suite and metric.

    Raises:
        BadInputError: a suite does not measure the metric that its field names.
    """
    if not tasks:
        return {}
    from lm_eval.models.huggingface import HFLM

    row_bytes = _FLOAT_BYTES * model.config.vocab_size * sequence_length
    rows = min(_MAX_BATCH_ROWS, max(1, _LOGITS_BYTES // row_bytes))
    # NB: the harness sets a padding token, so the tokenizer must be one that nobody else uses.
    language_model = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=rows)
    scores: dict[tuple[str, str], TaskScore] = {}
    for done, task in enumerate(tasks):
        say(task.suite.name, done, len(tasks))
        scores |= _score_task(language_model, task)
    return scores


def suite_results(tuned: Scores, *, base: Scores, settings: Bootstrap) -> list[EvaluationResult]:
    """The suites' numbers of the tuned model beside the base's."""
    results = []
    for (suite, metric), score in tuned.items():
        before, interval = base.get((suite, metric)), None
        if score.scores is not None:
            interval = bootstrap(
                score.scores,
                np.ones_like(score.scores),
                resamples=settings.resamples,
                confidence=settings.confidence,
            )
        results.append(
            EvaluationResult(
                suite=suite,
                split="tuned",
                metric=metric,
                value=score.value,
                low=interval.low if interval else None,
                high=interval.high if interval else None,
                base=before.value if before else None,
                n=score.num_rows,
            )
        )
    return results


def metrics_of(task: Task) -> list[tuple[str, str]]:
    """Suite and metric of every number that the task gives, as `score_tasks` names them."""
    return [(task.suite.name, name) for name in _names(task)]


def _load_task(request: StageRequest, suite: Suite, *, field: str) -> Task:
    try:
        folder = fetch_folder(
            suite,
            base=Path(request.base),
            cache=Path(request.cache),
            secrets=Path(request.secrets),
        )
    except SourceError as error:
        raise as_stage_error(error) from error
    settings = read_task(folder, suite.task, field=field)
    settings["dataset_kwargs"]["cache_dir"] = str(Path(request.cache) / "datasets")
    if suite.num_fewshot is not None:
        settings["num_fewshot"] = suite.num_fewshot
    settings.setdefault("num_fewshot", 0)
    task = Task(suite, field, _built(settings, field=field, name=suite.task))
    if not metrics_of(task):
        known = ", ".join(_metric_name(metric, "none") for metric in task.task.aggregation())
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"spec.{field}.metric: task '{suite.task}' does not measure {suite.metric}; it "
            f"measures {known}.",
        )
    return task


def _built(settings: dict[str, Any], *, field: str, name: str) -> Any:
    # Read when the packages are imported: nothing is asked of a hub, whatever a task names.
    os.environ |= {"HF_DATASETS_OFFLINE": "1", "HF_EVALUATE_OFFLINE": "1"}
    from lm_eval.api.registry import METRIC_REGISTRY
    from lm_eval.api.task import ConfigurableTask

    metrics = [metric.get("metric") for metric in settings.get("metric_list") or []]
    unknown = [metric for metric in metrics if metric not in METRIC_REGISTRY]
    if unknown:
        # NB: the harness would look for it in a folder of that name, and run what it finds there.
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.{field}: task '{name}' asks for the metric {unknown[0]}, which "
            "lm-evaluation-harness does not have; name one of its own, such as acc.",
        )
    try:
        with _sandboxed_templates():
            return ConfigurableTask(config=settings)
    except Exception as error:
        # Of other errors the class alone: their texts quote rows.
        because = str(error) if isinstance(error, TemplateError) else type(error).__name__
        raise BadInputError(
            Reason.DATASET_INVALID,
            f"spec.{field}: lm-evaluation-harness cannot build the task '{name}' ({because}); "
            "check its templates, splits and columns.",
        ) from error


def _score_task(language_model: Any, task: Task) -> dict[tuple[str, str], TaskScore]:
    from lm_eval.evaluator import evaluate

    # The same solved examples for both models.
    task.task.set_fewshot_seed(_SEED)
    with _sandboxed_templates():
        found = evaluate(
            language_model,
            {"tasks": {task.suite.task: task.task}},
            limit=task.suite.limit,
            bootstrap_iters=0,
            log_samples=True,
        )
    numbers, samples = found["results"][task.suite.task], found["samples"][task.suite.task]
    scores = {}
    for name, (metric, filtered) in _names(task).items():
        rows = [row[metric] for row in samples if row["filter"] == filtered and metric in row]
        value = float(numbers[f"{metric},{filtered}"])
        if not math.isfinite(value):
            continue
        scores[task.suite.name, name] = TaskScore(value, len(rows), _means(rows, value))
    return scores


def _names(task: Task) -> dict[str, tuple[str, str]]:
    """Metric and filter of the harness by our name of the two."""
    names = {
        _metric_name(metric, filtered.name): (metric, filtered.name)
        for filtered in task.task._filters  # noqa: SLF001 - the harness has no other way to ask
        for metric in task.task.aggregation()
    }
    return {name: pair for name, pair in names.items() if task.suite.metric in {None, name}}


def _metric_name(metric: str, filtered: str) -> str:
    return metric if filtered == "none" else f"{metric},{filtered}"


def _means(rows: Sequence[Any], value: float) -> NDArray[np.float64] | None:
    if not all(isinstance(row, int | float | np.number) for row in rows):
        return None
    scores = np.array(rows, dtype=np.float64)
    return scores if math.isclose(scores.mean(), value, rel_tol=_SAME, abs_tol=_SAME) else None


@contextmanager
def _sandboxed_templates() -> Iterator[None]:
    """Let the harness render the templates of a task without reach into Python."""
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from lm_eval import utils

    given = utils.env
    sandbox = ImmutableSandboxedEnvironment(
        undefined=given.undefined, keep_trailing_newline=given.keep_trailing_newline
    )
    sandbox.filters |= given.filters
    utils.env = sandbox
    try:
        yield
    finally:
        utils.env = given

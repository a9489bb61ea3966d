"""The metric over generated answers: which held-out prompts are asked, and how answers are scored.

Every score lies between 0 (nothing right) and 1 (all right). rouge-score and sacrebleu do the
arithmetic. This module decides which of them suits the data, and gives ROUGE a tokenizer that keeps
letters of every script, where its own keeps only a-z and digits. `evaluate` scores base and tuned
model with it, `compress` the model that ships.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.evaluation import Bootstrap, Generation
from tunesmith_api.results import EvaluationResult
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Message, Tool
from tunesmith_trainer.evaluate.bootstrap import bootstrap, ratio
from tunesmith_trainer.evaluate.suites import HELD_OUT

MetricName = Literal["exactMatch", "rougeL", "chrf"]

_SHORT_ANSWER_WORDS = 2
# Thai, Lao, Myanmar, Khmer, kana, Han: scripts that put no spaces between words.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class GenerationSuite:
    """Rendered prompts with the answers the data gives to them, and the metric that suits them.

    Without a metric there are no prompts: nothing is generated that nobody would score.
    """

    prompts: list[str]
    references: list[str]
    metric: MetricName | None
    # The same prompts as turns, and the tools of each, for models with a template of their own.
    conversations: list[list[Message]] = field(default_factory=list)
    tools: list[tuple[Tool, ...]] = field(default_factory=list)


def choose_generation_suite(
    records: Sequence[RowRecord], *, settings: Generation
) -> GenerationSuite:
    """At most `settings.max_samples` rows that have a prompt and an answer, evenly spread."""
    pairs = [
        (record.prompt, record.reference, record)
        for record in records
        if record.prompt is not None and record.reference
    ]
    # Spread, not the first ones: files are often sorted by topic.
    step = max(1.0, len(pairs) / settings.max_samples)
    chosen = [pairs[int(place * step)] for place in range(min(len(pairs), settings.max_samples))]
    references = [reference for _, reference, _ in chosen]
    metric = metric_for(settings, references=references)
    if metric is None:
        return GenerationSuite(prompts=[], references=[], metric=None)
    return GenerationSuite(
        prompts=[prompt for prompt, _, _ in chosen],
        references=references,
        metric=metric,
        conversations=[list(record.messages or ())[:-1] for _, _, record in chosen],
        tools=[record.tools for _, _, record in chosen],
    )


def metric_for(settings: Generation, *, references: Sequence[str]) -> MetricName | None:
    """The metric to score with; None if none is wanted or there is no reference answer."""
    if settings.metric == "none" or not references:
        return None
    if settings.metric != "auto":
        return settings.metric
    letters = [char for text in references for char in text if char.isalpha()]
    if len(_SPACELESS.findall("".join(letters))) > len(letters) / 2:
        return "chrf"
    if all(len(text.split()) <= _SHORT_ANSWER_WORDS for text in references):
        return "exactMatch"
    return "rougeL"


def generation_result(
    suite: GenerationSuite,
    predictions: Sequence[str],
    *,
    split: str,
    base: float | None,
    settings: Bootstrap,
) -> EvaluationResult | None:
    """The mean score of `predictions`, with its interval; None without a metric."""
    if suite.metric is None:
        return None
    scores = score_predictions(suite.metric, predictions=predictions, references=suite.references)
    ones = np.ones_like(scores)
    interval = bootstrap(scores, ones, resamples=settings.resamples, confidence=settings.confidence)
    return EvaluationResult(
        suite=HELD_OUT,
        split=split,
        metric=suite.metric,
        value=ratio(scores, ones),
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        base=base,
        n=len(scores),
    )


def mean_score(suite: GenerationSuite, predictions: Sequence[str]) -> float | None:
    """What `generation_result` has as its value; None without a metric."""
    if suite.metric is None:
        return None
    scores = score_predictions(suite.metric, predictions=predictions, references=suite.references)
    return float(scores.mean())


def score_predictions(
    metric: MetricName, *, predictions: Sequence[str], references: Sequence[str]
) -> NDArray[np.float64]:
    """One score for each prediction."""
    pairs = list(zip(predictions, references, strict=True))
    match metric:
        case "exactMatch":
            scores = [float(_normalized(said) == _normalized(wanted)) for said, wanted in pairs]
        case "rougeL":
            from rouge_score.rouge_scorer import RougeScorer

            rouge = RougeScorer(["rougeL"], tokenizer=_WordTokenizer())
            # NB: rouge-score takes the reference first, sacrebleu the prediction.
            scores = [rouge.score(wanted, said)["rougeL"].fmeasure for said, wanted in pairs]
        case "chrf":
            from sacrebleu.metrics.chrf import CHRF

            chrf = CHRF()
            # In percent there.
            scores = [chrf.sentence_score(said, [wanted]).score / 100 for said, wanted in pairs]
    return np.array(scores, dtype=np.float64)


def _normalized(text: str) -> str:
    """Text without what does not change a short answer: case, spacing, a full stop at its end."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(words).strip(".!?\"' ")


class _WordTokenizer:
    """What ROUGE splits words with."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.casefold())

"""Scores of generated answers: every score lies between 0 (nothing right) and 1 (all right).

rouge-score and sacrebleu do the arithmetic. This module decides which of them suits the data, and
gives ROUGE a tokenizer that keeps letters of every script, where its own keeps only a-z and digits.
"""

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tunesmith_api.finetunejob.evaluation import Generation

MetricName = Literal["exactMatch", "rougeL", "chrf"]

_SHORT_ANSWER_WORDS = 2
# Thai, Lao, Myanmar, Khmer, kana, Han: scripts that put no spaces between words.
_SPACELESS = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"
)
_WORD = re.compile(r"\w+")


def metric_for(wanted: Generation, *, references: Sequence[str]) -> MetricName | None:
    """The metric to score with; None if none is wanted or there is no reference answer."""
    if wanted.metric == "none" or not references:
        return None
    if wanted.metric != "auto":
        return wanted.metric
    return _suitable(references)


def score_answers(
    metric: MetricName, *, answers: Sequence[str], references: Sequence[str]
) -> NDArray[np.float64]:
    """One score for each answer."""
    scorer = {"exactMatch": _exact_match, "rougeL": _rouge_l, "chrf": _chrf}[metric]
    return np.array(scorer(answers, references), dtype=np.float64)


def _suitable(references: Sequence[str]) -> MetricName:
    letters = [char for text in references for char in text if char.isalpha()]
    if len(_SPACELESS.findall("".join(letters))) > len(letters) / 2:
        return "chrf"
    if all(len(text.split()) <= _SHORT_ANSWER_WORDS for text in references):
        return "exactMatch"
    return "rougeL"


def _exact_match(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    pairs = zip(answers, references, strict=True)
    return [float(_plain(answer) == _plain(reference)) for answer, reference in pairs]


def _plain(text: str) -> str:
    """Text without what does not change a short answer: case, spacing, a full stop at its end."""
    words = unicodedata.normalize("NFKC", text).casefold().split()
    return " ".join(words).strip(".!?\"' ")


class _Words:
    """The tokenizer that ROUGE is given."""

    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.casefold())


def _rouge_l(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    pairs = zip(answers, references, strict=True)
    return [
        float(scorer.score(reference, answer)["rougeL"].fmeasure) for answer, reference in pairs
    ]


def _chrf(answers: Sequence[str], references: Sequence[str]) -> list[float]:
    from sacrebleu.metrics.chrf import CHRF

    scorer = CHRF()
    pairs = zip(answers, references, strict=True)
    return [scorer.sentence_score(answer, [reference]).score / 100 for answer, reference in pairs]

"""Answers that are classes, and probably the wrong ones, by confident learning.

After Northcutt et al. 2021 (JAIR 70), and cleanlab: a classifier of the words gives each row a
probability of every class, learnt from the other folds alone. A row is suspected where another
class is at least as probable as it is, on average, of the rows that have it as their answer (the
"confident joint"), and the most probable of all. Where the words do not tell the classes, so that
the classifier is often wrong, nothing is suspected.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.word_vectors import Vectors, codes_of, word_vectors

# Fewer rows of a class teach nobody what it is.
_LEAST_OF_A_CLASS: Final = 10
_FEWEST_ROWS: Final = 50
_MOST_CLASSES: Final = 200
# Of all rows, those whose answer is one of the classes; of the others the rule says nothing.
_LEAST_SHARE: Final = 0.8
_FOLDS: Final = 5
# Rows that a fold's classifier learns from; more hardly make it better, and cost minutes.
_MOST_LEARNT: Final = 20_000
# Of the answers that are given, those that it has to find: below, too much of what it suspects is
# right (docs/log.md).
_LEAST_AGREEMENT: Final = 0.8
# Of the solver: what it has not learnt by then changes no more which class is likeliest.
_ROUNDS: Final = 200

Probabilities = NDArray[np.float64]
Classes = NDArray[np.int64]


def label_errors(texts: Sequence[str], answers: Sequence[str], *, seed: int) -> list[int]:
    """Places of rows whose answer is suspected; none where answers are no classes."""
    codes, _ = codes_of(answers)
    sizes = np.bincount(codes)
    is_class = sizes >= _LEAST_OF_A_CLASS
    places = np.flatnonzero(is_class[codes])
    if (
        len(places) < max(_FEWEST_ROWS, _LEAST_SHARE * len(codes))
        or not 2 <= is_class.sum() <= _MOST_CLASSES  # noqa: PLR2004 - one class is always right
    ):
        return []
    given = (np.cumsum(is_class) - 1)[codes[places]]
    vectors = word_vectors(texts[int(place)] for place in places)
    told = held_out_probabilities(vectors, given, seed=seed)
    if (told.argmax(axis=1) == given).mean() < _LEAST_AGREEMENT:
        return []
    return [int(place) for place in places[suspected(told, given)]]


def suspected(told: Probabilities, given: Classes) -> NDArray[np.bool_]:
    """Which rows count off the diagonal of the confident joint; `told` was not learnt from them."""
    own = told[np.arange(len(given)), given]
    sums = np.bincount(given, weights=own, minlength=told.shape[1])
    thresholds = sums / np.maximum(np.bincount(given, minlength=told.shape[1]), 1)
    confident = np.where(told >= thresholds, told, 0.0)
    likeliest = confident.argmax(axis=1)
    is_other: NDArray[np.bool_] = (
        (confident.max(axis=1) > 0) & (likeliest != given) & (told.argmax(axis=1) == likeliest)
    )
    return is_other


def held_out_probabilities(vectors: Vectors, given: Classes, *, seed: int) -> Probabilities:
    """The probability of each class for each row, by what the rows of other folds teach."""
    # Most jobs do not ask: a second and a half of imports.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    told = np.zeros((len(given), int(given.max()) + 1))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=seed)
    draw = np.random.default_rng(seed)
    for others, out in folds.split(vectors, given):
        learnt = draw.permutation(others)[:_MOST_LEARNT]
        model = LogisticRegression(max_iter=_ROUNDS).fit(vectors[learnt], given[learnt])
        told[np.ix_(out, model.classes_)] = model.predict_proba(vectors[out])
    return told

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
from scipy.optimize import minimize

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
_ROUNDS: Final = 60

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
    num_classes = int(given.max()) + 1
    told = np.zeros((len(given), num_classes))
    folds = _folds(given, seed=seed)
    for fold in range(_FOLDS):
        is_out = folds == fold
        learnt = np.flatnonzero(~is_out)
        if len(learnt) > _MOST_LEARNT:
            learnt = np.random.default_rng([seed, fold]).choice(learnt, _MOST_LEARNT, replace=False)
        weights = _learnt(vectors[learnt], given[learnt], num_classes=num_classes)
        told[is_out] = _softmax(vectors[is_out] @ weights[:-1] + weights[-1])
    return told


def _folds(given: Classes, *, seed: int) -> Classes:
    """Every class as often in each fold as can be."""
    shuffled = np.random.default_rng(seed).permutation(len(given))
    ordered = shuffled[np.argsort(given[shuffled], kind="stable")]
    folds = np.zeros(len(given), np.int64)
    folds[ordered] = np.arange(len(given)) % _FOLDS
    return folds


def _learnt(vectors: Vectors, given: Classes, *, num_classes: int) -> NDArray[np.float64]:
    """Weights of a multinomial logistic regression, its offsets last; scikit-learn's penalty."""
    shape = (vectors.shape[1] + 1, num_classes)
    wanted = np.eye(num_classes)[given]
    turned = vectors.T.tocsr()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        told = _softmax(vectors @ weights[:-1] + weights[-1])
        cost = -np.log(np.maximum((told * wanted).sum(axis=1), 1e-300)).sum()
        off = told - wanted
        slope = np.vstack((turned @ off + weights[:-1], off.sum(axis=0)))
        return float(cost + 0.5 * (weights[:-1] ** 2).sum()), slope.ravel()

    found = minimize(
        loss, np.zeros(shape[0] * shape[1]), jac=True, method="L-BFGS-B",
        options={"maxiter": _ROUNDS, "maxcor": 5},
    )  # fmt: skip
    learnt: NDArray[np.float64] = found.x.reshape(shape)
    return learnt


def _softmax(scores: NDArray[np.float64]) -> Probabilities:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Probabilities = raised / raised.sum(axis=1, keepdims=True)
    return shares

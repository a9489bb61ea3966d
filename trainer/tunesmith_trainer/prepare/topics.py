"""Rows by topic: spherical k-means (Dhillon & Modha 2001) over the words of what they say.

k-means++ chooses where clusters begin; the best of a few beginnings counts. The same rows and seed
give the same topics.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.word_vectors import Vectors, word_vectors

_BEGINNINGS: Final = 3
_MOST_ROUNDS: Final = 30
Centres = NDArray[np.float64]
Clusters = NDArray[np.int64]


def topics_of(texts: Iterable[str], *, num: int, seed: int) -> Clusters:
    """For each text the number of its topic, from the largest topic on; fewer where texts lack."""
    vectors = word_vectors(texts)
    random = np.random.default_rng(seed)
    found = [_clustered(vectors, num=num, random=random) for _ in range(_BEGINNINGS)]
    clusters, _ = max(found, key=lambda each: each[1])
    # Numbered by size: the report then begins with what there is most of.
    sizes = np.bincount(clusters, minlength=num)
    places = np.empty(num, np.int64)
    places[np.argsort(-sizes, kind="stable")] = np.arange(num)
    return places[clusters]


def _clustered(
    vectors: Vectors, *, num: int, random: np.random.Generator
) -> tuple[Clusters, float]:
    """The clusters, and how near their rows are to their centres in all."""
    centres = _beginning(vectors, num=num, random=random)
    clusters = np.full(vectors.shape[0], -1)
    for _ in range(_MOST_ROUNDS):
        nearness = vectors @ centres.T
        nearest = nearness.argmax(axis=1)
        if np.array_equal(nearest, clusters):
            break
        clusters = nearest
        centres = _centres(vectors, clusters, before=centres)
    return clusters, float((vectors @ centres.T).max(axis=1).sum())


def _beginning(vectors: Vectors, *, num: int, random: np.random.Generator) -> Centres:
    """k-means++: each next centre is a row, the likelier the farther it is from those before."""
    far = np.ones(vectors.shape[0])
    centres = np.zeros((num, vectors.shape[1]))
    for place in range(num):
        row = int(random.choice(len(far), p=far / far.sum())) if far.sum() > 0 else 0
        centres[place] = vectors[[row]].toarray()[0]
        far = (
            np.minimum(far, np.maximum(1 - vectors @ centres[place], 0))
            if place
            else np.maximum(1 - vectors @ centres[place], 0)
        )
    return centres


def _centres(vectors: Vectors, clusters: Clusters, *, before: Centres) -> Centres:
    sums = np.stack(
        [np.asarray(vectors[clusters == number].sum(axis=0)) for number in range(len(before))]
    )
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    # A cluster that has lost its rows stays where it was.
    moved: Centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), before)
    return moved

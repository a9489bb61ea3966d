"""Rows by topic: k-means over the words of what they say.

Vectors of one length, so that the nearest centre is the one of the most similar words. The same
rows and seed give the same topics.
"""

import warnings
from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tunesmith_trainer.data.cleaning.word_vectors import word_vectors

# Of which the best counts.
_BEGINNINGS: Final = 3

Clusters = NDArray[np.int64]


def topics_of(texts: Iterable[str], *, num: int, seed: int) -> Clusters:
    """For each text the number of its topic, from the largest topic on; fewer where texts lack."""
    # Most jobs do not ask: a second and a half of imports.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    vectors = word_vectors(texts)
    found = KMeans(min(num, vectors.shape[0]), n_init=_BEGINNINGS, random_state=seed)
    with warnings.catch_warnings():
        # It warns of fewer different texts than clusters, which the report shows.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = found.fit_predict(vectors)
    # Numbered by size: the report then begins with what there is most of.
    sizes = np.bincount(clusters, minlength=num)
    places = np.empty(num, np.int64)
    places[np.argsort(-sizes, kind="stable")] = np.arange(num)
    return places[clusters]

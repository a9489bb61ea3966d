"""shap's own side of `explanation_run.py`, in an environment of its own, which has no torch.

A line of JSON on standard input is a row: its words. A line on standard output asks for the worth
of texts, as the words of each that are left, or ends the row with the scores of its words. What a
text is worth is ours to say: both sides have one scorer.
"""

import json
import sys
import time
from collections.abc import Callable

import numpy as np
import shap

MASK = "…"
Worth = Callable[[list[str]], np.ndarray]


def explained(words: list[str], worth: Worth) -> dict[str, object]:
    """`PartitionExplainer` over a `Text` masker, as shap's tutorials of text have it."""
    masker = shap.maskers.Text(r"\s+", mask_token=MASK, collapse_mask_token=False)
    explainer = shap.PartitionExplainer(worth, masker)
    started = time.monotonic()
    found = explainer([" ".join(words)], max_evals=500, silent=True)
    seconds = time.monotonic() - started
    pieces = [piece.strip() for piece in found.data[0]]
    by_word = dict(zip(pieces, np.ravel(found.values[0]).tolist(), strict=True))
    return {"scores": [by_word[word] for word in words], "seconds": seconds}


def asked_for(words: list[str]) -> Worth:
    """The worth of texts, from whoever is at the other end."""

    def worth(texts: list[str]) -> np.ndarray:
        # A word ends with its place: none is a part of another.
        left = [[word in text for word in words] for text in texts]
        print(json.dumps({"masks": left}), flush=True)
        return np.array(json.loads(sys.stdin.readline()))

    return worth


if __name__ == "__main__":
    # The first call compiles for a minute, which is nobody's explanation.
    explained(["a_0_", "b_1_", "c_2_"], lambda texts: np.array([float(len(t)) for t in texts]))
    for line in sys.stdin:
        row = json.loads(line)
        print(json.dumps(explained(row, asked_for(row))), flush=True)

"""Simple models of the tuned model: what it decides, from which words of the prompt are there.

A sparse linear model and a small decision tree are fitted to the model's own decisions, not to the
wanted answers. Where the held-out rows have few different answers a decision is the likeliest of
them; elsewhere it is how likely the wanted answer is to the model, nats per token. How well each
foretells the model on rows that it was not fitted to is its fidelity, beside what is told without
looking at a word. Whether its words move the model is judged by another method: occlusion.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LassoCV
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, export_text
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tunesmith_api.finetunejob.explain import Surrogate
from tunesmith_trainer.data.held_out_roles import parted, record_key, row_of
from tunesmith_trainer.data.prepared import RowRecord
from tunesmith_trainer.data.rows import Row
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.bootstrap import SEED
from tunesmith_trainer.evaluate.generation import pad_id_of
from tunesmith_trainer.evaluate.log_likelihood import score_rows
from tunesmith_trainer.explain.global_view import words_of
from tunesmith_trainer.fairness.held_out_rows import MOST_CLASSES, HeldOut, answered

Floats = NDArray[np.float64]
# To fit on, and to be judged on.
_FEWEST_ROWS: Final = 8
_FEWEST_WORDS: Final = 5
_RESAMPLES: Final = 1_000
_FOLDS: Final = 4
_SHOWN_WORDS: Final = 20
_LEAST_IN_LEAF: Final = 3


@dataclass(frozen=True, slots=True)
class Decided:
    """What the model decides of rows: a number of an answer, or a log-likelihood."""

    rows: list[int]
    values: Floats
    # None: likelihoods.
    classes: list[str] | None


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """The held-out rows as text and as tokens, and the longest that there may be."""

    records: Sequence[RowRecord]
    tokens: TokenRows
    longest: int


def decisions(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    held_out: HeldOutRows,
    *,
    chosen: Sequence[int],
    on_batch: Callable[[int, int], None],
) -> Decided:
    """What the model decides of the chosen rows."""
    pad_id = pad_id_of(tokenizer)
    rows = [row_of(record) for record in held_out.records]
    classes = sorted({row.messages[-1].content for row in rows if row.messages})
    if not 1 < len(classes) <= MOST_CLASSES:
        scored = score_rows(model, held_out.tokens.subset(chosen), pad_id=pad_id, on_batch=on_batch)
        return Decided([*chosen], -scored.sums / np.maximum(scored.weights, 1.0), None)
    fit = HeldOut(held_out.records, tokenizer, longest=held_out.longest, max_new_tokens=1).fitting()
    sides = {
        number: [fit(answered(rows[number], answer)) for answer in classes]
        for number in chosen
        if rows[number].messages
    }
    whole = {number: [one for one in each if one] for number, each in sides.items() if all(each)}
    tokens = TokenRows.of(
        (side.tokens.ids, side.tokens.trained) for each in whole.values() for side in each
    )
    losses = score_rows(model, tokens, pad_id=pad_id, on_batch=on_batch).sums
    best = losses.reshape(-1, len(classes)).argmin(axis=1)
    return Decided([*whole], best.astype(np.float64), classes)


def surrogates(
    decided: Decided,
    records: Sequence[RowRecord],
    *,
    settings: Surrogate,
    effects: Mapping[str, float],
) -> dict[str, Any]:
    """Both simple models with their fidelity, and words; `effects` are those of occlusion."""
    texts = [prompt_of(row_of(records[number])) for number in decided.rows]
    fitted, judged = _halves([records[number] for number in decided.rows])
    told: dict[str, Any] = {
        "target": "answer" if decided.classes else "logLikelihood",
        "metric": "agreement" if decided.classes else "r2",
        "fittedRows": len(fitted),
        "judgedRows": len(judged),
        "models": [],
    }
    if min(len(fitted), len(judged)) < _FEWEST_ROWS:
        return told | {"reason": f"fewer than {_FEWEST_ROWS} rows to fit on or to judge by"}
    if len(set(decided.values[fitted])) < 2:  # noqa: PLR2004 - nothing to tell apart
        return told | {"reason": "the model decides alike of all rows that it is fitted to"}
    counted = CountVectorizer(
        analyzer=words_of, binary=True, min_df=2, max_features=settings.max_words
    )
    try:
        inputs = counted.fit_transform([texts[row] for row in fitted]).astype(np.float64)
    except ValueError:
        return told | {"reason": "no word stands in two rows"}
    others = counted.transform([texts[row] for row in judged]).astype(np.float64)
    names = counted.get_feature_names_out().tolist()
    for name, model in _models(settings, is_classes=decided.classes is not None).items():
        model.fit(inputs, decided.values[fitted])
        fidelity = _fidelity(decided.values[judged], model.predict(others), decided, fitted)
        told["models"].append(
            {"model": name, **fidelity, **_described(model, names, effects=effects)}
        )
    return told


def without_words(found: Mapping[str, Any]) -> dict[str, Any]:
    """What may leave the workspace: no word of any row."""
    models = [
        {name: value for name, value in told.items() if name not in ("words", "rules")}
        for told in found["models"]
    ]
    return {**found, "models": models}


def prompt_of(row: Row) -> str:
    """What stands before the answer."""
    if row.text is not None:
        return row.text
    return "\n".join(turn.content for turn in row.messages[:-1])


def _halves(records: Sequence[RowRecord]) -> tuple[list[int], list[int]]:
    """Rows with one question are on one side: else a copy would be foretold by its twin."""
    keys = [record_key(record) for record in records]
    return parted(keys, fraction=0.5) if len(set(keys)) > 1 else (list(range(len(keys))), [])


def _models(settings: Surrogate, *, is_classes: bool) -> dict[str, Any]:
    shape = {
        "max_depth": settings.max_depth,
        "min_samples_leaf": _LEAST_IN_LEAF,
        "random_state": SEED,
    }
    if is_classes:
        linear = LinearSVC(penalty="l1", dual=False, random_state=SEED, max_iter=10_000)
        return {"sparseLinear": linear, "tree": DecisionTreeClassifier(**shape)}
    lasso = LassoCV(cv=_FOLDS, random_state=SEED, max_iter=10_000)
    return {"sparseLinear": lasso, "tree": DecisionTreeRegressor(**shape)}


def _fidelity(
    wanted: Floats, foretold: Floats, decided: Decided, fitted: Sequence[int]
) -> dict[str, Any]:
    """Agreement or R² on the other half, its interval over rows, and that of one constant."""
    known = decided.values[fitted]
    if decided.classes:
        numbers, counts = np.unique(known, return_counts=True)
        constant, measure = numbers[counts.argmax()], _agreement
    else:
        constant, measure = known.mean(), _r2
    drawn = np.random.default_rng(SEED).integers(len(wanted), size=(_RESAMPLES, len(wanted)))
    values = [measure(wanted[rows], foretold[rows]) for rows in drawn]
    low, high = np.quantile(values, [0.025, 0.975])
    return {
        "fidelity": measure(wanted, foretold),
        "interval": [float(low), float(high)],
        "constant": measure(wanted, np.full_like(wanted, constant)),
    }


def _agreement(wanted: Floats, foretold: Floats) -> float:
    return float(np.mean(wanted == foretold))


def _r2(wanted: Floats, foretold: Floats) -> float:
    spread = float(np.sum((wanted - wanted.mean()) ** 2))
    # Rows that do not differ leave nothing to explain.
    return 1.0 - float(np.sum((wanted - foretold) ** 2)) / spread if spread else 0.0


def _described(model: Any, names: Sequence[str], *, effects: Mapping[str, float]) -> dict[str, Any]:
    is_tree = hasattr(model, "tree_")
    weights = model.feature_importances_ if is_tree else np.abs(np.atleast_2d(model.coef_)).max(0)
    used = [(name, float(weight)) for name, weight in zip(names, weights, strict=True) if weight]
    used.sort(key=lambda told: (-told[1], told[0]))
    shared = [name for name, _ in used if name in effects]
    return {
        "numWords": len(used),
        "occlusionRank": _rank(dict(used), effects, shared),
        "occlusionWords": len(shared),
        "words": [{"word": name, "weight": weight} for name, weight in used[:_SHOWN_WORDS]],
        **({"leaves": int(model.get_n_leaves()), "rules": _rules(model, names)} if is_tree else {}),
    }


def _rank(
    weights: Mapping[str, float], effects: Mapping[str, float], words: Sequence[str]
) -> float | None:
    """Spearman's correlation of what both say of the same words, without a sign."""
    if len(words) < _FEWEST_WORDS:
        return None
    one, other = [weights[word] for word in words], [abs(effects[word]) for word in words]
    if not (np.ptp(one) > 0 and np.ptp(other) > 0):
        return None
    return float(spearmanr(one, other).statistic)


def _rules(model: Any, names: Sequence[str]) -> str:
    return str(export_text(model, feature_names=list(names)))

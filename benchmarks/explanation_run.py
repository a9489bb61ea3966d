"""Explanations of planted truth, and of real prompts beside captum's own for language models.

`explanation.py` runs it in the trainer's environment: `planted`, `captum MODEL`, the folder of a
model with a chat template, or `shap PYTHON`, one that has shap. JSON on standard output.
"""

import json
import subprocess
import sys
import time
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/support"))
from scipy.stats import spearmanr

from planted_trigger import planted_game, planted_model
from tunesmith_api.finetunejob.explain import METHODS, Explain
from tunesmith_trainer.explain.attributions import attribute
from tunesmith_trainer.explain.explained_model import ExplainedModel
from tunesmith_trainer.explain.faithfulness import RandomOrders
from tunesmith_trainer.explain.shapley import exact_shapley
from tunesmith_trainer.models import load_model, load_tokenizer

_PLANTED_ROWS: Final = 100
_EXACT_ROWS: Final = 20
_SHAP_ROWS: Final = 12
_PROMPTS: Final = (
    ("What is the capital of France?", "Paris"),
    ("My printer does not print anything today.", "Turn it off and on again."),
    ("Name the largest planet we know.", "Jupiter"),
    ("Translate cat into French for me.", "chat"),
)


def planted() -> dict[str, Any]:
    """How often the word that decides is ranked first, and how exact exact values are."""
    model, settings = planted_model(), Explain()
    first = dict.fromkeys(METHODS, 0)
    beats: dict[str, list[float]] = {method: [] for method in METHODS}
    for seed in range(_PLANTED_ROWS):
        game, place = planted_game(model, num_words=5 + seed % 12, seed=1000 + seed)
        random = RandomOrders(game, seed=0)
        for method in METHODS:
            found = attribute(game, method, settings)
            first[method] += int(np.argmax(found.scores)) == place
            beats[method].append(random.judge(found.scores).deletion.beats)
    return {
        "rows": _PLANTED_ROWS,
        "rankedFirst": {method: hits / _PLANTED_ROWS for method, hits in first.items()},
        "deletionBeatsRandom": {method: float(np.mean(of)) for method, of in beats.items()},
        "exactError": max(_exact_error(model, seed) for seed in range(_EXACT_ROWS)),
    }


def _exact_error(model: Any, seed: int) -> float:
    """The largest difference from Shapley's definition, over all orders of the units."""
    num = 4 + seed % 4
    game, _ = planted_game(model, num_words=num, seed=seed)
    masks = np.array(
        [[bool(number >> bit & 1) for bit in range(num)] for number in range(1 << num)]
    )
    worth = {mask.tobytes(): float(v) for mask, v in zip(masks, game.values(masks), strict=True)}
    shares, orders = np.zeros(num), list(permutations(range(num)))
    for order in orders:
        there = np.zeros(num, np.bool_)
        for player in order:
            before = worth[there.tobytes()]
            there[player] = True
            shares[player] += worth[there.tobytes()] - before
    exact = exact_shapley(game.values, num_players=num)
    return float(np.abs(exact - shares / len(orders)).max())


def beside_captum(folder: Path) -> dict[str, Any]:
    """The same prompts and words through captum's `LLMAttribution`, by three methods."""
    settings = Explain(units="words", attention=False)
    tokenizer = load_tokenizer(folder)
    model = ExplainedModel.of(load_model(folder, dtype=torch.float32), tokenizer, settings)
    return {"captum": [_compared(model, text, answer) for text, answer in _PROMPTS]}


def _compared(model: ExplainedModel, text: str, answer: str) -> dict[str, Any]:
    from captum.attr import (
        FeatureAblation,
        KernelShap,
        LLMAttribution,
        ShapleyValueSampling,
        TextTemplateInput,
    )

    told: dict[str, Any] = {"words": len(text.split())}
    samples = model.settings.max_passes // model.settings.seeds
    peers = {
        "occlusion": (FeatureAblation, {}),
        "shap": (ShapleyValueSampling, {"n_samples": 25}),
        "kernel": (KernelShap, {"n_samples": samples}),
    }
    for name, (kind, options) in peers.items():
        _, game = model.game_of_text(text, answer=answer)
        started = time.monotonic()
        ours = attribute(game, "occlusion" if name == "occlusion" else "shap", model.settings)
        seconds, passes = time.monotonic() - started, game.num_scored
        units = list(game.units)
        row = game.row
        ends = [row.places[unit.tokens[0]][0] for unit in units] + [
            row.places[units[-1].tokens[-1]][1]
        ]
        pieces = [row.text[a:b] for a, b in pairwise(ends)]
        before, after = row.text[: ends[0]], row.text[ends[-1] : row.places[row.num_prompt][0]]
        template = (before + "\0" + after).replace("{", "{{").replace("}", "}}")
        asked = TextTemplateInput(template.replace("\0", "{}" * len(pieces)), values=pieces)
        forwards = _counted(game.model)
        started = time.monotonic()
        torch.manual_seed(0)
        # NB: with its cache, which is on by default, captum 0.9 gives other numbers than the model:
        # transformers 5 grows the one cache with every coalition that is asked.
        peer = LLMAttribution(kind(game.model), model.tokenizer).attribute(
            asked, target=answer + "<|im_end|>", use_cached_outputs=False, **options
        )
        scores = peer.seq_attr.double().cpu().numpy().reshape(-1)
        told[name] = {
            "rankCorrelation": float(spearmanr(ours.scores, scores).statistic),
            "sameFirst": bool(np.argmax(ours.scores) == np.argmax(scores)),
            "ours": {"passes": passes, "seconds": round(seconds, 2)},
            "captum": {
                "passes": forwards(),
                "seconds": round(time.monotonic() - started, 2),
            },
        }
        print(f"bench: {name}: {told[name]}", file=sys.stderr)
    return told


def beside_shap(python: Path) -> dict[str, Any]:
    """Rows of the planted model through shap's own explainer of texts, which asks our scorer."""
    model, script = planted_model(), Path(__file__).with_name("explanation_shap.py")
    rows = []
    with subprocess.Popen(
        [python, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as peer:
        for seed in range(_SHAP_ROWS):
            game, place = planted_game(model, num_words=5 + seed % 12, seed=2000 + seed)
            theirs = _by_shap(peer, game)
            row: dict[str, Any] = {"words": game.num_units, "shap": _found(theirs, place)}
            for name in ("kernel", "partition"):
                ours, _ = planted_game(model, num_words=5 + seed % 12, seed=2000 + seed)
                found = attribute(ours, "shap", Explain(estimator=name))
                row[name] = _found((found.scores, ours.num_scored, found.seconds), place)
                row[name]["rank"] = float(spearmanr(found.scores, theirs[0]).statistic)
            rows.append(row)
    return {name: _means(rows, name) for name in ("shap", "kernel", "partition")} | {
        "rows": _SHAP_ROWS
    }


def _by_shap(peer: Any, game: Any) -> tuple[Any, int, float]:
    """Scores, passes and seconds."""
    print(json.dumps([f"{unit.text}_{at}_" for at, unit in enumerate(game.units)]), file=peer.stdin,
          flush=True)  # fmt: skip
    while True:
        said = json.loads(peer.stdout.readline())
        if "scores" in said:
            return np.array(said["scores"]), game.num_scored, said["seconds"]
        masks = np.array(said["masks"], dtype=np.bool_)
        print(json.dumps(game.values(masks).tolist()), file=peer.stdin, flush=True)


def _found(told: tuple[Any, int, float], place: int) -> dict[str, float]:
    scores, passes, seconds = told
    return {
        "rankedFirst": float(np.argmax(scores) == place),
        "passes": float(passes),
        "seconds": seconds,
    }


def _means(rows: list[dict[str, Any]], name: str) -> dict[str, float]:
    return {key: round(float(np.mean([row[name][key] for row in rows])), 3)
            for key in rows[0][name]}  # fmt: skip


def _counted(model: Any) -> Any:
    """Count the rows that the model reads from here on; the count ends with the first look."""
    seen = [0]

    # NB: captum calls `model.forward`, past the hooks of the model itself.
    def count(_module: Any, given: tuple[torch.Tensor, ...]) -> None:
        seen[0] += len(given[0])

    hook = model.get_input_embeddings().register_forward_pre_hook(count)

    def look() -> int:
        hook.remove()
        return seen[0]

    return look


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["planted"]:
            told = planted()
        case ["shap", python]:
            told = beside_shap(Path(python))
        case _:
            told = beside_captum(Path(sys.argv[2]))
    print(json.dumps(told))

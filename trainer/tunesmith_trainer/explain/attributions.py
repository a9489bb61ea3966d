"""SHAP, LIME, integrated gradients and occlusion of one row, by captum where it has them.

captum perturbs a vector of ones, one for each unit, and the game scores the coalitions; integrated
gradients go through the model itself. Exact and partition SHAP are `shapley.py`'s: captum walks
through all permutations instead of all coalitions, and has no partition.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import FeatureAblation, IntegratedGradients, KernelShap, Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function
from numpy.typing import NDArray

from tunesmith_api.finetunejob.explain import Explain, Method
from tunesmith_engine.stages.memory import EXPLAINED_TOKENS
from tunesmith_trainer.explain.game import Game, UndefinedValueError
from tunesmith_trainer.explain.shapley import MOST_EXACT, exact_shapley, owen_values

Values = NDArray[np.float64]

# Coalitions that captum hands over at a time.
_COALITIONS: Final = 64
# The kernel's width by cosine distance, as the authors of LIME have it for text.
_LIME_WIDTH: Final = 0.25
_RIDGE: Final = 0.01
_GRADIENT_STEPS: Final = 50


@dataclass(frozen=True, slots=True)
class Attribution:
    """What one method says of a row.

    `scores` are nats per answer token, the mean over `runs`, which has one for each seed; a method
    that draws nothing has one run. `passes` are forward passes that no earlier method had made.
    """

    method: Method
    estimator: str
    scores: Values
    runs: Sequence[Values]
    passes: int
    seconds: float


def attribute(game: Game, method: Method, settings: Explain) -> Attribution:
    """Attribute the likelihood of the answer to the units of the prompt.

    Raises:
        UndefinedValueError: a likelihood or an attribution is not finite.
    """
    estimator, run, is_drawn, own_passes = _estimators(game, method, settings)
    before, started = game.num_scored, time.monotonic()
    seeds = range(settings.seed, settings.seed + settings.seeds) if is_drawn else (settings.seed,)
    with warnings.catch_warnings():
        # Of captum, about its own defaults.
        warnings.simplefilter("ignore")
        runs = [_seeded(run, seed) for seed in seeds]
    if not np.isfinite(runs).all():
        raise UndefinedValueError(f"{method} gives an attribution that is not a finite number")
    return Attribution(
        method=method,
        estimator=estimator,
        scores=np.mean(runs, axis=0),
        runs=runs,
        passes=game.num_scored - before + own_passes,
        seconds=time.monotonic() - started,
    )


def _estimators(
    game: Game, method: Method, settings: Explain
) -> tuple[str, Callable[[], Values], bool, int]:
    """Name, run, whether it draws, and the passes that the game does not count."""
    samples = settings.max_passes // settings.seeds
    if method == "occlusion":
        return "leave one out", partial(occlusion, game), False, 0
    if method == "integratedGradients":
        steps = min(_GRADIENT_STEPS, settings.max_passes)
        return f"{steps} steps", partial(integrated_gradients, game, steps=steps), False, steps
    if method == "lime":
        return f"{samples} samples", partial(lime, game, samples=samples), True, 0
    if game.num_units <= MOST_EXACT:
        return "exact", partial(exact_shapley, game.values, num_players=game.num_units), False, 0
    if settings.estimator == "partition":
        shares = partial(owen_values, num_players=game.num_units, most=settings.max_passes)
        return "partition", partial(shares, game.values), False, 0
    return f"kernel, {samples} samples", partial(kernel_shap, game, samples=samples), True, 0


def occlusion(game: Game) -> Values:
    """What is lost with each unit alone."""
    found = FeatureAblation(_forward(game)).attribute(
        _everybody(game), perturbations_per_eval=_COALITIONS
    )
    return _values(found)


def kernel_shap(game: Game, *, samples: int) -> Values:
    """Shapley values by regression over drawn coalitions (Lundberg & Lee 2017)."""
    found = KernelShap(_forward(game)).attribute(
        _everybody(game), n_samples=samples, perturbations_per_eval=_COALITIONS
    )
    return _values(found)


def lime(game: Game, *, samples: int) -> Values:
    """Weights of a ridge regression near the whole prompt (Ribeiro et al. 2016)."""
    explainer = Lime(
        _forward(game),
        interpretable_model=SkLearnRidge(alpha=_RIDGE),
        similarity_func=get_exp_kernel_similarity_function("cosine", _LIME_WIDTH),
    )
    found = explainer.attribute(
        _everybody(game), n_samples=samples, perturbations_per_eval=_COALITIONS
    )
    return _values(found)


def integrated_gradients(game: Game, *, steps: int) -> Values:
    """Gradients on the way from the mean token to each token of a unit (Sundararajan et al. 2017).

    The sum over a unit's tokens; tokens of the template and of the answer stay what they are.
    """
    model, row = game.model, game.row
    table = model.get_input_embeddings()
    ids = torch.tensor([row.ids], device=model.device)
    labels = ids[0, row.num_prompt :]
    with torch.no_grad():
        whole = table(ids)
        baseline = whole.clone()
        inside = [token for unit in game.units for token in unit.tokens]
        baseline[0, inside] = table.weight.mean(dim=0)

    def forward(embeddings: torch.Tensor) -> torch.Tensor:
        logits = model(
            inputs_embeds=embeddings, use_cache=False, logits_to_keep=len(labels) + 1
        ).logits[:, :-1]
        logprobs: torch.Tensor = logits.float().log_softmax(dim=-1)
        chosen = logprobs.gather(-1, labels.expand(len(embeddings), -1)[..., None])
        return chosen[..., 0].mean(dim=1)

    found = IntegratedGradients(forward).attribute(
        whole,
        baselines=baseline,
        n_steps=steps,
        internal_batch_size=max(1, EXPLAINED_TOKENS // len(row.ids)),
    )
    by_token = found[0].sum(dim=-1).double().cpu().numpy()
    return np.array([by_token[list(unit.tokens)].sum() for unit in game.units])


def _forward(game: Game) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(present: torch.Tensor) -> torch.Tensor:
        # In fp64: LIME and KernelSHAP fit to differences of these.
        return torch.from_numpy(game.values(present.bool().numpy()))

    return forward


def _everybody(game: Game) -> torch.Tensor:
    return torch.ones(1, game.num_units, dtype=torch.float64)


def _values(found: torch.Tensor) -> Values:
    return found.detach().reshape(-1).double().numpy()


def _seeded(run: Callable[[], Values], seed: int) -> Values:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return run()

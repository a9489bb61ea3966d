"""The divergence of one model from another, and which layers are sensitive to rounding."""

from pathlib import Path

import pytest
import torch

from small_models import make_tiny_model
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.compress.sensitivity import (
    decoder_layers,
    layer_pattern,
    most_sensitive,
    sensitivities,
)
from tunesmith_trainer.data.token_rows import TokenRows
from tunesmith_trainer.evaluate.distributions import Distributions
from tunesmith_trainer.evaluate.log_likelihood import load_for_scoring

ROWS = TokenRows.of(
    (list(range(5, 5 + length)), [False] * 2 + [True] * (length - 2)) for length in (6, 9, 4)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def test_a_model_is_no_divergence_from_itself_and_leaves_no_file(
    folder: Path, tmp_path: Path
) -> None:
    model = load_for_scoring(folder)

    own = Distributions.of(model, ROWS, folder=tmp_path)

    assert own.logprobs.shape == (4 + 7 + 2, model.config.vocab_size)
    assert own.kl_to(model) < 1e-9
    assert list(tmp_path.iterdir()) == []


def test_the_divergence_is_that_of_the_definition(folder: Path, tmp_path: Path) -> None:
    model, other = load_for_scoring(folder), load_for_scoring(folder)
    with torch.no_grad():
        other.get_input_embeddings().weight.add_(0.05 * torch.randn_like(other.lm_head.weight))

    found = Distributions.of(model, ROWS, folder=tmp_path).kl_to(other)

    divergences = []
    for index in range(len(ROWS)):
        ids = torch.tensor(ROWS.row(index)[0])[None].long()
        with torch.inference_mode():
            ours, theirs = (each(ids).logits[0, 1:-1].log_softmax(-1) for each in (model, other))
        divergences += (ours.exp() * (ours - theirs)).sum(-1).tolist()
    assert found == pytest.approx(sum(divergences) / len(divergences), rel=1e-4)
    assert found > 0


def test_the_layer_with_large_weights_is_the_sensitive_one(folder: Path, tmp_path: Path) -> None:
    model = load_for_scoring(folder)
    layers = dict(decoder_layers(model))
    with torch.no_grad():
        for name, layer in layers.items():
            for module in layer.modules():
                if isinstance(module, torch.nn.Linear):
                    # An outlier in each row leaves no steps for the others.
                    module.weight[:, 0] += 20.0 if name == "model.layers.1" else 0.0
    tuned = Distributions.of(model, ROWS, folder=tmp_path)
    told: list[tuple[int, int]] = []

    found = sensitivities(
        model, tuned, scheme="W8A8", group_size=None, on_layer=lambda *at: told.append(at)
    )

    assert most_sensitive(found, 1) == ["model.layers.1"]
    assert told == [(place + 1, len(layers)) for place in range(len(layers))]
    # What was rounded for a look is as it was.
    assert tuned.kl_to(model) < 1e-9


def test_at_least_one_layer_is_rounded() -> None:
    found = {"model.layers.0": 0.1, "model.layers.1": 0.2}

    with pytest.raises(BadInputError, match=r"keepLayers: given 2 of 2 decoder layers"):
        most_sensitive(found, 2)


def test_the_pattern_of_a_layer_is_not_that_of_another() -> None:
    assert layer_pattern("model.layers.1") == r"re:model\.layers\.1[.].*"

"""`training.compile`: the layers are handed to the compiler, which has to be there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from small_models import small_model
from small_runs import a_loop, a_train_config, losses
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.adapters import build_trainable
from tunesmith_trainer.train.compilation import compile_layers

CPU = torch.device("cpu")
TRAINING: dict[str, Any] = {"method": "full", "compile": True, "maxSteps": 3}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    small_model().save_pretrained(folder)
    return folder


def test_every_layer_is_compiled_and_keeps_the_names_of_its_weights(base: Path) -> None:
    config = a_train_config(training=TRAINING)
    model = build_trainable(base, config=config, device=CPU)

    layers = model.model.layers
    assert all(layer._compiled_call_impl is not None for layer in layers)
    assert list(model.state_dict()) == list(small_model().state_dict())


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(BadInputError, match=r"training.compile: there is no g\+\+") as caught:
        compile_layers(small_model(), device=CPU)

    assert caught.value.reason is Reason.RESOURCES_UNAVAILABLE


@pytest.mark.long
def test_a_compiled_run_has_the_curve_of_one_that_is_not(base: Path, tmp_path: Path) -> None:
    curves = []
    for compiled in (True, False):
        config = a_train_config(training={**TRAINING, "compile": compiled})
        model = build_trainable(base, config=config, device=CPU)
        folder = tmp_path / str(compiled)
        curves.append(losses(a_loop(model, config=config, folder=folder).run()))

    for got, expected in zip(*curves, strict=True):
        assert got["loss"] == pytest.approx(expected["loss"], rel=1e-4)

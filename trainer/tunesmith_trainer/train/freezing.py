"""`spec.training.freeze` on a model: which modules it names, and whether anything is left to train.

`adapters` asks when it builds the model, and prepare's `preflight` before that, on a model without
weights.
"""

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final

import torch

from tunesmith_api.finetunejob.freeze import Freeze
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError

# Of the names that look most like a pattern that matches nothing, and how alike they must be.
_NUM_NEAR: Final = 5
_ALIKE: Final = 0.5


def frozen_modules(freeze: Freeze, *, model: Any) -> tuple[str, ...]:
    """The paths of the modules that stay as they are, each with all that lies below it.

    Raises:
        BadInputError: there are fewer layers, or a pattern matches no module.
    """
    paths = [path for path, _ in model.named_modules() if path]
    modules = [
        path for path in paths if any(fnmatchcase(path, pattern) for pattern in freeze.modules)
    ]
    for pattern in freeze.modules:
        if not any(fnmatchcase(path, pattern) for path in paths):
            raise _matches_nothing(pattern, paths=paths)
    modules += _first_layers(freeze.layers, model=model)
    if freeze.embeddings:
        embedding = model.get_input_embeddings()
        modules += [path for path, module in model.named_modules() if module is embedding]
    return tuple(modules)


def is_frozen(path: str, modules: Iterable[str]) -> bool:
    """Whether a module or parameter is one of `modules`, or lies below one."""
    return any(path == module or path.startswith(f"{module}.") for module in modules)


def freeze_parameters(model: torch.nn.Module, modules: Iterable[str]) -> None:
    """Take the parameters of `modules` out of training.

    Raises:
        BadInputError: no other is left.
    """
    for path in modules:
        # NB: by the module, not by names: a tied matrix has one name, and is frozen by either.
        model.get_submodule(path).requires_grad_(requires_grad=False)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise nothing_left("every parameter of the model is frozen")


def nothing_left(because: str) -> BadInputError:
    """Nothing would be trained."""
    return BadInputError(
        Reason.INVALID_SPEC,
        f"training.freeze: nothing is left to train, since {because}; freeze less",
    )


def _first_layers(number: int, *, model: Any) -> list[str]:
    if number == 0:
        return []
    num_layers = model.config.get_text_config().num_hidden_layers
    if number > num_layers:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.freeze.layers: {number} layers, but the model has {num_layers}; give at "
            f"most {num_layers}",
        )
    return [f"{layer_stack(model)}.{layer}" for layer in range(number)]


def layer_stack(model: Any) -> str:
    """The path of the list of the model's layers."""
    num_layers = model.config.get_text_config().num_hidden_layers
    return next(
        path
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == num_layers
    )


def _matches_nothing(pattern: str, *, paths: Iterable[str]) -> BadInputError:
    # Layers differ by their numbers alone: each name once, whole and by its end.
    general = {re.sub(r"\.\d+(?=\.|$)", ".*", path) for path in paths}
    general |= {
        f"*.{path.rpartition('.')[2]}" for path in general if "." in path and path[-1] != "*"
    }
    near = difflib.get_close_matches(pattern, sorted(general), n=_NUM_NEAR, cutoff=_ALIKE)
    advice = ", ".join(near or sorted(name for name in general if name.startswith("*.")))
    return BadInputError(
        Reason.INVALID_SPEC,
        f"training.freeze.modules: {pattern} matches no module of this model; near are {advice}",
    )

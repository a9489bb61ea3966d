"""`torch.compile` over the layers of a model, where the job asks for it.

Layer by layer and in place: all layers are alike, so the compiler works once, and names in
checkpoints stay. `adapters` calls it before the model is sharded, whose hooks the compiler leaves
alone.
"""

import os
import shutil
from typing import Any, Final

import torch

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train.freezing import layer_stack

# Lines alone and several, with a mask of packed rows and without, with gradients and without, and
# each of them for a first length and then for any; torch gives up after eight.
_KINDS: Final = 16

# What Inductor for processors, and Triton for accelerators, look for when CXX or CC name none.
_COMPILERS: Final = {True: ("CXX", ("g++", "clang++")), False: ("CC", ("gcc", "clang"))}


def compile_layers(model: Any, *, device: torch.device) -> None:
    """Let every layer of `model` be compiled when it first runs.

    Raises:
        BadInputError: there is no compiler here for the code that is generated.
    """
    variable, usual = _COMPILERS[device.type == "cpu"]
    names = [name for name in (os.environ.get(variable), *usual) if name]
    if not any(shutil.which(name) for name in names):
        raise BadInputError(
            Reason.RESOURCES_UNAVAILABLE,
            f"training.compile: there is no {' or '.join(names)} here to compile with; take an "
            "image with one, or leave compile out",
        )
    torch._dynamo.config.recompile_limit = _KINDS  # noqa: SLF001 - where torch documents it
    for layer in model.get_submodule(layer_stack(model)):
        layer.compile()

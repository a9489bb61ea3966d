"""Gradient checkpointing (Chen et al. 2016, arXiv 1604.06174): activations that are computed again.

`adapters` switches it on when the model is built. Gradients stay what they are, to the last bit on
a processor: the recomputation starts from the generators' state of the first one, so that dropout
drops the same, and runs under the same autocast.
"""

from typing import Any

from tunesmith_api.finetunejob.gradient_checkpointing import GradientCheckpointing, every_n_layers
from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.errors import BadInputError


def checkpoint_layers(model: Any, setting: GradientCheckpointing) -> None:
    """Let the layers of `model` that `setting` names compute their activations again.

    Raises:
        BadInputError: transformers cannot do so with this model.
    """
    distance = every_n_layers(setting)
    if distance is None:
        return
    if not model.supports_gradient_checkpointing:
        raise BadInputError(
            Reason.INVALID_SPEC,
            f"training.gradientCheckpointing: a model of type {model.config.model_type} does not "
            "support it; set it to none",
        )
    model.gradient_checkpointing_enable(
        # NB: the reentrant kind would skip layers whose input needs no gradient, as behind frozen
        # embeddings, and leave their adapters without one.
        {"use_reentrant": False},
        every_n_layers=distance,
    )
    # transformers lets embeddings ask for gradients, for the reentrant kind: frozen layers at the
    # bottom would then be gone through backwards for nothing.
    model.disable_input_require_grads()

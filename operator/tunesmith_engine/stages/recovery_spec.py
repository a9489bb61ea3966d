"""The spec of the run by which `distill` wins back what pruning cost, made of the job's own."""

from tunesmith_api.finetunejob.freeze import Freeze
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training


def recovering(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """One process trains the pruned model, without what holds the tuned one to its base.

    The planner has filled in the defaults of `compression.prune`; without it the spec is as it was.
    """
    if spec.compression.prune is None:
        return spec
    resources = spec.resources.model_copy(update={"workers": 1, "min_workers": None})
    return spec.model_copy(update={"training": _training(spec), "resources": resources})


def _training(spec: FineTuneJobSpec) -> Training:
    training, prune = spec.training, spec.compression.prune
    if prune is None:
        return training
    recovery = prune.recovery
    return training.model_copy(
        update={
            # Of preferences the chosen answers are what is distilled.
            "objective": "sft",
            "method": recovery.method,
            # The pruned weights are nothing that could be quantized once more before they are good.
            "lora": training.lora.with_defaults().model_copy(update={"quantization": "none"}),
            "optimizer": training.optimizer.model_copy(
                update={"learning_rate": recovery.learning_rate, "layer_decay": 1.0}
            ),
            "epochs": recovery.epochs,
            "max_steps": recovery.max_steps,
            "parallelism": "ddp",
            "evaluate_every_steps": None,
            "freeze": Freeze(),
            "regularization": Regularization(),
            "early_stopping": None,
            "kl_to_base": None,
            "distillation": None,
            "adversarial": None,
            "forgetting_budget": None,
            "control": None,
        }
    )

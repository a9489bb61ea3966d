"""The specs by which models are pruned and recovered, made of the job's own."""

from typing import Final

from tunesmith_api.finetunejob.compression import Compression, Quantize
from tunesmith_api.finetunejob.freeze import Freeze
from tunesmith_api.finetunejob.regularization import Regularization
from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_api.finetunejob.training import Training

DRAFT_FIELD: Final = "serving.speculative.draft"


def drafted(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The job as if its draft were all that is pruned, and nothing quantized.

    The planner has filled in the draft's defaults; without a draft nothing is pruned.
    """
    speculative = spec.serving.speculative
    draft = speculative.draft if speculative else None
    compression = Compression(
        prune=draft.as_prune() if draft else None, quantize=Quantize(scheme="none")
    )
    return spec.model_copy(update={"compression": compression})


def recovering(spec: FineTuneJobSpec) -> FineTuneJobSpec:
    """The run that wins back what pruning cost.

    One process trains the pruned model, without what holds the tuned one to its base. The planner
    has filled in the defaults of `compression.prune`; without it the spec is as it was.
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

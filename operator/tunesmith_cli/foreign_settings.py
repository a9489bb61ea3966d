"""Which field of a job says what a field of Axolotl or LLaMA-Factory says: the tables, and no more.

`conversion.py` goes through them; docs/task/coming-from.md shows them, and a test keeps it in step.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_SCHEDULES: Final = {"cosine": "cosine", "linear": "linear", "constant": "constant",
                     "constant_with_warmup": "constant"}  # fmt: skip
_STAGES: Final = {"sft": "sft", "dpo": "dpo"}
_ADAPTERS: Final = {"lora": "lora", "qlora": "lora", "": "full"}
# As YAML's true and false are written here.
_PACKING: Final = {"true": "bfd", "false": "none"}
_CHECKPOINTING: Final = {"true": "all", "false": "none"}
_FOUR_BITS: Final = {"true": "nf4", "false": "none", "4": "nf4"}
_OPTIMIZERS: Final = {"adamw_torch": "adamw", "adamw_torch_fused": "adamw", "adamw_hf": "adamw",
                      "adamw_8bit": "adamw_8bit", "adamw_bnb_8bit": "adamw_8bit"}  # fmt: skip
_FINETUNING: Final = {"lora": "lora", "full": "full"}


@dataclass(frozen=True, slots=True)
class Same:
    """The field below `spec` with the same value, or with the one that `words` has for it."""

    path: str
    words: Mapping[str, str] | None = None


# Taken together with others, or with a look at their values: `conversion.py` has them by name.
COMBINED: Final[Mapping[str, str]] = {
    "model": "model.uri",
    "data": "dataset.train.uri",
    "held out": "dataset.validationFraction",
    "name": "output.model",
    "batch": "training.batch",
    "steps": "training.maxSteps",
    "warm-up": "training.schedule.warmupRatio",
    "precision": "training.precision",
    "modules": "training.lora.targetModules",
    "row format": "dataset.format",
}

AXOLOTL: Final[Mapping[str, Same | str]] = {
    "base_model": "model",
    "datasets": "data",
    "val_set_size": "held out",
    "output_dir": "name",
    "adapter": Same("training.method", _ADAPTERS),
    "rl": Same("training.objective", _STAGES),
    "lora_r": Same("training.lora.rank"),
    "lora_alpha": Same("training.lora.alpha"),
    "lora_dropout": Same("training.lora.dropout"),
    "lora_target_modules": "modules",
    "load_in_4bit": Same("training.lora.quantization", _FOUR_BITS),
    "peft_use_dora": Same("training.lora.useDora"),
    "peft_use_rslora": Same("training.lora.useRslora"),
    "loraplus_lr_ratio": Same("training.lora.loraplusLrRatio"),
    "sequence_len": Same("training.sequenceLength"),
    "sample_packing": Same("training.packing", _PACKING),
    "gradient_checkpointing": Same("training.gradientCheckpointing", _CHECKPOINTING),
    "optimizer": Same("training.optimizer.type", _OPTIMIZERS),
    "micro_batch_size": "batch",
    "gradient_accumulation_steps": "batch",
    "num_epochs": Same("training.epochs"),
    "max_steps": "steps",
    "learning_rate": Same("training.optimizer.learningRate"),
    "weight_decay": Same("training.optimizer.weightDecay"),
    "adam_beta1": Same("training.optimizer.beta1"),
    "adam_beta2": Same("training.optimizer.beta2"),
    "max_grad_norm": Same("training.optimizer.maxGradNorm"),
    "lr_scheduler": Same("training.schedule.type", _SCHEDULES),
    "warmup_ratio": "warm-up",
    "warmup_steps": "warm-up",
    "bf16": "precision",
    "fp16": "precision",
    "neftune_noise_alpha": Same("training.regularization.neftuneNoiseAlpha"),
    "early_stopping_patience": Same("training.earlyStopping.patience"),
    "seed": Same("training.seed"),
}

LLAMA_FACTORY: Final[Mapping[str, Same | str]] = {
    "model_name_or_path": "model",
    "dataset": "data",
    "dataset_dir": "data",
    "val_size": "held out",
    "output_dir": "name",
    "stage": Same("training.objective", _STAGES),
    "finetuning_type": Same("training.method", _FINETUNING),
    "lora_rank": Same("training.lora.rank"),
    "lora_alpha": Same("training.lora.alpha"),
    "lora_dropout": Same("training.lora.dropout"),
    "lora_target": "modules",
    "quantization_bit": Same("training.lora.quantization", _FOUR_BITS),
    "use_dora": Same("training.lora.useDora"),
    "use_rslora": Same("training.lora.useRslora"),
    "loraplus_lr_ratio": Same("training.lora.loraplusLrRatio"),
    "cutoff_len": Same("training.sequenceLength"),
    "packing": Same("training.packing", _PACKING),
    "gradient_checkpointing": Same("training.gradientCheckpointing", _CHECKPOINTING),
    "optim": Same("training.optimizer.type", _OPTIMIZERS),
    "per_device_train_batch_size": "batch",
    "gradient_accumulation_steps": "batch",
    "num_train_epochs": Same("training.epochs"),
    "max_steps": "steps",
    "learning_rate": Same("training.optimizer.learningRate"),
    "weight_decay": Same("training.optimizer.weightDecay"),
    "adam_beta1": Same("training.optimizer.beta1"),
    "adam_beta2": Same("training.optimizer.beta2"),
    "max_grad_norm": Same("training.optimizer.maxGradNorm"),
    "lr_scheduler_type": Same("training.schedule.type", _SCHEDULES),
    "warmup_ratio": "warm-up",
    "warmup_steps": "warm-up",
    "bf16": "precision",
    "fp16": "precision",
    "neftune_noise_alpha": Same("training.regularization.neftuneNoiseAlpha"),
    "seed": Same("training.seed"),
}

# By the field that only its files have.
TOOLS: Final[Mapping[str, tuple[str, Mapping[str, Same | str]]]] = {
    "base_model": ("Axolotl", AXOLOTL),
    "model_name_or_path": ("LLaMA-Factory", LLAMA_FACTORY),
}
# What is true of every job, or has no place in a manifest: nothing is lost without it.
NOT_NEEDED: Final = frozenset({
    "do_train", "do_eval", "eval_strategy", "flash_attention", "load_in_8bit", "logging_steps",
    "lora_target_linear",
    "overwrite_cache", "overwrite_output_dir", "plot_loss", "preprocessing_num_workers",
    "save_only_model", "save_safetensors", "save_strategy", "special_tokens", "strict", "template",
    "tf32", "train_on_inputs", "trust_remote_code", "model_type", "tokenizer_type",
    "dataloader_num_workers", "dataset_prepared_path",
})  # fmt: skip

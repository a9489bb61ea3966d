"""The metrics that pods export while they train; `tunesmith_trainer` fills them, dashboards ask.

None has a label of job or namespace: those the PodMonitor adds.
"""

from typing import Final

from tunesmith_engine.monitoring.metric_families import MetricFamily

STEP: Final = MetricFamily("tunesmith_train_step", "gauge", (), "Optimizer steps that are done.")
PLANNED_STEPS: Final = MetricFamily(
    "tunesmith_train_planned_steps", "gauge", (), "Optimizer steps of the whole run."
)
EPOCH: Final = MetricFamily("tunesmith_train_epoch", "gauge", (), "How often the rows were read.")
LOSS: Final = MetricFamily(
    "tunesmith_train_loss_nats",
    "gauge",
    ("kind",),
    "The last number of each kind of point in the curve: train, heldOut, trainSample, general, kl.",
)
GRADIENT_NORM: Final = MetricFamily(
    "tunesmith_train_gradient_norm", "gauge", (), "Norm of the last gradient, before clipping."
)
LEARNING_RATE: Final = MetricFamily(
    "tunesmith_train_learning_rate", "gauge", (), "Learning rate of the last step."
)
TOKENS: Final = MetricFamily(
    "tunesmith_train_tokens_total", "counter", (), "Real tokens that were read."
)
TRAINED_TOKENS: Final = MetricFamily(
    "tunesmith_train_trained_tokens_total", "counter", (), "Those of them that were targets."
)
PADDING: Final = MetricFamily(
    "tunesmith_train_padding_tokens_total", "counter", (), "Places that were computed beside them."
)
TOKENS_PER_SECOND: Final = MetricFamily(
    "tunesmith_train_tokens_per_second", "gauge", (), "Real tokens a second, of the last step."
)
MFU: Final = MetricFamily(
    "tunesmith_train_mfu_ratio", "gauge", (), "Model FLOPs utilization, where the peak is known."
)
RESIDENT_MEMORY: Final = MetricFamily(
    "tunesmith_train_resident_memory_bytes", "gauge", (), "Memory of the worker's process."
)
DEVICE_MEMORY: Final = MetricFamily(
    "tunesmith_train_device_memory_peak_bytes",
    "gauge",
    (),
    "The most that tensors have held of the worker's device.",
)

TRAINING_FAMILIES: Final = (
    STEP,
    PLANNED_STEPS,
    EPOCH,
    LOSS,
    GRADIENT_NORM,
    LEARNING_RATE,
    TOKENS,
    TRAINED_TOKENS,
    PADDING,
    TOKENS_PER_SECOND,
    MFU,
    RESIDENT_MEMORY,
    DEVICE_MEMORY,
)

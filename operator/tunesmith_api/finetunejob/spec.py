"""`FineTuneJob.spec`: every remedy a job can ask for, as typed fields with their bounds.

A field exists only if it works. `None` as a default means *decided when the job is planned*;
`tunesmith plan` shows the outcome, and the field's description says the rule. Rules across fields
stand in `rules.py`, where they are written once for the models (Python) and once for the API
server (CEL), and are tested to agree.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.finetunejob.resources import Resources, Workspace
from tunesmith_api.uris import SourceUri, TargetUri
from tunesmith_api.values import (
    DnsLabel,
    Fraction,
    NonNegative,
    Positive,
    QueueName,
    SecretReference,
    Seed,
    ShortText,
    VersionLabel,
)


class ModelSource(ApiModel):
    """The base model: safetensors or GGUF weights with their tokenizer."""

    uri: SourceUri = Field(
        description="Where the model lies: a folder of safetensors, or one .gguf file."
    )
    revision: ShortText | None = Field(
        None, description="Branch, tag or commit of an hf:// model. Default: the hub's main branch."
    )
    chat_template: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = Field(
        None, description="A Jinja chat template that replaces the model's own."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the model.")


class DataSource(ApiModel):
    """A file of rows, or a pattern that several files match."""

    uri: SourceUri = Field(
        description="A jsonl, json, csv, parquet or yaml file; * matches several files."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the data.")


class Cleaning(ApiModel):
    """What is removed before the split.

    Everything removed is counted in the data card.
    """

    exact_duplicates: Literal["remove", "keep"] = Field(
        "remove", description="Rows with the same conversation: keep the first, or keep all."
    )
    empty_rows: Literal["remove", "fail"] = Field(
        "remove", description="Rows whose answers are empty: leave them out, or refuse the data."
    )


class Dataset(ApiModel):
    """Training rows, validation rows, and how to read them."""

    train: DataSource
    validation: DataSource | None = Field(
        None, description="Rows to validate on. Default: a seeded part of the training rows."
    )
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None, description="Part of the training rows held out. Default 0.1; not with `validation`."
    )
    format: Literal[
        "auto", "messages", "sharegpt", "alpaca", "promptCompletion", "text", "dialogues"
    ] = Field(
        "auto", description="Shape of a row; `auto` decides from the fields of the first rows."
    )
    columns: dict[ShortText, ShortText] = Field(
        default_factory=dict,
        max_length=20,
        description="Names in the data for the names of the format, such as prompt: question.",
    )
    overlong: Literal["drop", "fail", "truncatePrompt"] = Field(
        "drop",
        description="Rows longer than training.sequenceLength: leave out (and count), "
        "refuse, or cut the oldest "
        "prompt tokens. Answers are never cut.",
    )
    cleaning: Cleaning = Cleaning()
    seed: Seed = Field(0, description="Seed of the split.")


class Lora(ApiModel):
    """Low-rank adapters (Hu et al. 2021, arXiv 2106.09685)."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    alpha: Annotated[float, Field(gt=0, le=4096)] | None = Field(
        None, description="Scale of the update. Default: twice the rank."
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    target_modules: Annotated[list[ShortText], Field(min_length=1, max_length=64)] = Field(
        default_factory=lambda: ["all-linear"],
        description="Names of the modules that get adapters; all-linear means every linear "
        "layer but the head.",
    )


class Optimizer(ApiModel):
    """AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101); norms and biases are never decayed."""

    learning_rate: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Peak learning rate. Default: 2e-4 for lora, 2e-5 for full."
    )
    weight_decay: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.999
    max_grad_norm: Annotated[float, Field(gt=0.0, le=1000.0)] = 1.0


class Schedule(ApiModel):
    """How the learning rate moves: linear warm-up, then the named decay to a floor."""

    type: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Fraction = Field(0.05, description="Part of all steps spent warming up.")
    min_learning_rate_ratio: Fraction = Field(0.1, description="Floor, as a part of the peak rate.")


class Batch(ApiModel):
    """Rows per optimizer step, over all workers, and rows per forward pass of one worker."""

    size: Annotated[int, Field(ge=1, le=65536)] = 16
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] = 4


class Training(ApiModel):
    """How the model is trained."""

    method: Literal["lora", "full"] = "lora"
    lora: Lora = Lora()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch: Batch = Batch()
    epochs: Annotated[float, Field(gt=0.0, le=1000.0)] | None = Field(
        None, description="Passes over the training rows. Default 3; not with `maxSteps`."
    )
    max_steps: Positive | None = Field(None, description="Optimizer steps; not with `epochs`.")
    sequence_length: Annotated[int, Field(ge=8, le=1_048_576)] = Field(
        1024, description="Longest row in tokens; never more than the model's context."
    )
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="Autocast type. auto: bf16 where the processor computes it natively."
    )
    evaluate_every_steps: Positive | None = Field(
        None, description="Steps between held-out evaluations. Default: a tenth of all steps."
    )
    seed: Seed = 0


class Checkpoint(ApiModel):
    """How often training can be continued from, and how many such points are kept."""

    every_steps: Positive | None = Field(None, description="Default: a tenth of all steps.")
    keep: Annotated[int, Field(ge=1, le=100)] = 2


class Generation(ApiModel):
    """The metric over generated answers."""

    metric: Literal["auto", "exactMatch", "rougeL", "chrf", "none"] = Field(
        "auto",
        description="auto: exactMatch for answers of one or two words, else rougeL; chrf "
        "without word spaces.",
    )
    max_samples: Annotated[int, Field(ge=1, le=10_000)] = 32
    max_new_tokens: Annotated[int, Field(ge=1, le=8192)] = 64


class Bootstrap(ApiModel):
    """Percentile bootstrap over rows (Efron 1979)."""

    resamples: Annotated[int, Field(ge=100, le=100_000)] = 1000
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95


class Gate(ApiModel):
    """A bound the tuned model must keep; exactly one of the four bounds is given."""

    suite: Literal["heldOut", "general"] = "heldOut"
    metric: Literal["loss", "perplexity", "exactMatch", "rougeL", "chrf"] = "loss"
    min: float | None = Field(None, description="The value must be at least this.")
    max: float | None = Field(None, description="The value must be at most this.")
    min_delta: float | None = Field(
        None, description="Value minus the base's must be at least this."
    )
    max_delta: float | None = Field(
        None, description="Value minus the base's must be at most this."
    )


class Evaluation(ApiModel):
    """Base against tuned: on the held-out rows, and on general text so that forgetting shows."""

    generation: Generation = Generation()
    general_text: DataSource | None = Field(
        None,
        description="Plain text for the general suite. Default: a text that ships with Tunesmith.",
    )
    bootstrap: Bootstrap = Bootstrap()
    gates: Annotated[list[Gate], Field(max_length=32)] = Field(
        default_factory=lambda: [Gate(suite="heldOut", metric="loss", max_delta=0.0)],
        description="Bounds that must hold. Default: the held-out loss is no worse than "
        "the base's.",
    )


class Quantize(ApiModel):
    """Quantization of the merged model."""

    scheme: Literal["none", "W8A8", "W4A16", "FP8"] = Field(
        "W8A8",
        description="W8A8: int8 weights and activations. W4A16: 4-bit GPTQ weights. FP8: "
        "GPU only, untested. none: bf16.",
    )
    group_size: Literal[32, 64, 128] | None = Field(
        None,
        description="Columns that share a W4A16 scale. Default: the largest that divides "
        "the layers.",
    )
    calibration_rows: Annotated[int, Field(ge=1, le=4096)] = 128


class CompressionGate(ApiModel):
    """How much of the tuned model's quality must survive."""

    min_recovery: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None, description="Default: 0.99 for 8 bit, 0.97 for 4 bit."
    )
    fallback: Literal["widen", "fail"] = Field(
        "widen", description="After a failed gate: try the next wider scheme, or fail the job."
    )


class Compression(ApiModel):
    """Merge the adapters, quantize, and prove that little was lost."""

    quantize: Quantize = Quantize()
    gate: CompressionGate = CompressionGate()


class Serving(ApiModel):
    """How vLLM runs the model, in the verify stage and when it is served."""

    enforce_eager: bool = Field(
        True,
        description="false lets vLLM compile the model: it starts later, and verify judges that "
        "build.",
    )
    max_model_length: Annotated[int, Field(ge=16, le=1_048_576)] | None = Field(
        None,
        description="Longest request in tokens. Default: 2048 or the model's context, the smaller.",
    )


class Verification(ApiModel):
    """The same prompts through transformers and vLLM; both must answer alike."""

    prompts: Annotated[int, Field(ge=1, le=1000)] = 20
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
    min_agreement: Fraction = Field(
        0.9,
        description="Part of greedy tokens that must be equal, given the same tokens before them. "
        "From 64 tokens on, what chance explains at 95 % is borne.",
    )
    max_logprob_difference: Annotated[float, Field(gt=0.0, le=20.0)] = Field(
        0.25,
        description="Bound on the mean absolute difference of token log-probabilities, in nats.",
    )


class Output(ApiModel):
    """Under which name and where the finished model is kept."""

    model: DnsLabel
    uri: TargetUri | None = Field(
        None,
        description="Folder that holds the versions of the model. Default: the home "
        "folder's models/.",
    )
    version: VersionLabel | None = Field(
        None, description="Name of the version. Default: the first characters of its digest."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to write the output.")


class FineTuneJobSpec(ApiModel):
    """One model, one data set, and everything that shall happen between them."""

    model: ModelSource
    dataset: Dataset
    training: Training = Training()
    checkpoint: Checkpoint = Checkpoint()
    evaluation: Evaluation = Evaluation()
    compression: Compression = Compression()
    verification: Verification = Verification()
    serving: Serving = Serving()
    output: Output
    resources: Resources = Resources()
    workspace: Workspace = Workspace()
    queue_name: QueueName | None = Field(
        None,
        description="LocalQueue of Kueue that every stage waits in until quota is free. "
        "Default: no queue.",
    )
    suspend: bool = Field(
        False, description="true stops the running stage; false goes on from its last checkpoint."
    )
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="Retries of a stage after faults of the machine. Bad input is never retried."
    )
    active_deadline_seconds: Positive | None = Field(
        None,
        description="Seconds from the start, or from the end of the last suspension, after which "
        "the job fails with DeadlineExceeded. Time in a queue of Kueue does not count.",
    )
    pre_running_deadline_seconds: Positive | None = Field(
        None,
        description="Seconds that the pod of a stage may take to run, in the queue, for a node and "
        "for its image together; the job then fails with what it waited for. Default: no limit.",
    )
    ttl_seconds_after_finished: NonNegative | None = Field(
        None,
        description="Seconds after its end in which the job is deleted, with its volume and its "
        "record; a model that was published elsewhere stays. Default: never.",
    )

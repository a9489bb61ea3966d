"""`FineTuneJob.spec`: every remedy a job can ask for, as typed fields with their bounds.

A field exists only if it works. Each part of the spec has a module of its own, named after its
path, with its fields, their bounds, rules and defaults. `None` as a default means *decided when the
job is planned, or later*: a mark from `field_markers` says which, `tunesmith plan` shows the
outcome, and the field's description says the rule.
"""

from typing import Annotated, Self

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import ClusterOnly, DecidedLater
from tunesmith_api.field_paths import dotted, records_of
from tunesmith_api.field_types import NonNegative, Positive, QueueName, SecretReference
from tunesmith_api.finetunejob.compression import Compression
from tunesmith_api.finetunejob.cross_validation import CrossValidation
from tunesmith_api.finetunejob.data_source import DataSource
from tunesmith_api.finetunejob.dataset import Dataset
from tunesmith_api.finetunejob.deploy import Deploy
from tunesmith_api.finetunejob.evaluation import Evaluation
from tunesmith_api.finetunejob.export import Export
from tunesmith_api.finetunejob.model import ModelSource
from tunesmith_api.finetunejob.output import Output
from tunesmith_api.finetunejob.resources import Resources, Workspace
from tunesmith_api.finetunejob.search import Search
from tunesmith_api.finetunejob.serving import Serving, Verification
from tunesmith_api.finetunejob.suites import Suite
from tunesmith_api.finetunejob.tracking import Tracking
from tunesmith_api.finetunejob.training import Checkpoint, Training


class FineTuneJobSpec(ApiModel):
    """One model, one data set, and everything that shall happen between them."""

    model: ModelSource
    dataset: Dataset
    training: Training = Training()
    search: Annotated[Search | None, DecidedLater("no search")] = Field(
        None,
        description="Try other settings of training first, and train with the best. Default: none.",
    )
    cross_validation: Annotated[CrossValidation | None, DecidedLater("no folds")] = Field(
        None,
        description="Measure the settings of training on folds of the training rows first. "
        "Default: no folds.",
    )
    checkpoint: Checkpoint = Checkpoint()
    tracking: Tracking = Tracking()
    evaluation: Evaluation = Evaluation()
    compression: Compression = Compression()
    export: Annotated[Export | None, DecidedLater("no other format")] = Field(
        None,
        description="Write the tuned model in formats for devices, too. Default: none.",
    )
    verification: Verification = Verification()
    serving: Serving = Serving()
    output: Output
    deploy: Annotated[Deploy | None, DecidedLater("nothing is deployed"), ClusterOnly()] = Field(
        None,
        description="Serve the model when it is published: makes a ModelDeployment if it is "
        "missing. Default: nothing is deployed.",
    )
    resources: Resources = Resources()
    workspace: Annotated[Workspace, ClusterOnly()] = Workspace()
    queue_name: Annotated[QueueName | None, DecidedLater("no queue"), ClusterOnly()] = Field(
        None,
        description="LocalQueue of Kueue that every stage waits in until quota is free. "
        "Default: no queue.",
    )
    suspend: bool = Field(
        False,
        description="true stops the running stage; false goes on: training from its last "
        "checkpoint, another stage from its start.",
    )
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        2, description="Retries of a stage after faults of the machine. Bad input is never retried."
    )
    active_deadline_seconds: Annotated[Positive | None, DecidedLater("no deadline")] = Field(
        None,
        description="Seconds from the start, the end of the last suspension or the last retry, "
        "after which the job fails with DeadlineExceeded. Time in a queue of Kueue does not count.",
    )
    pre_running_deadline_seconds: Annotated[
        Positive | None,
        DecidedLater("no deadline"),
        ClusterOnly(),
    ] = Field(
        None,
        description="Seconds that the pod of a stage may take to run, in the queue, for a node and "
        "for its images together; the job then fails with what it waited for. Default: no limit.",
    )
    ttl_seconds_after_finished: Annotated[
        NonNegative | None,
        DecidedLater("never deleted"),
        ClusterOnly(),
    ] = Field(
        None,
        description="Seconds after its end in which the job is deleted, with its volume and its "
        "record; a model that was published elsewhere stays. Default: never.",
    )

    @property
    def holds_to_highlights(self) -> bool:
        """Whether training holds attributions to `dataset.highlights`."""
        explanation = self.training.explanation
        return explanation is not None and not explanation.learns_rationales

    def with_defaults(self) -> Self:
        """With every default filled in that does not depend on data, model or machine."""
        return self.model_copy(
            update={
                "dataset": self.dataset.with_defaults(),
                "training": self.training.with_defaults(),
                "evaluation": self.evaluation.with_defaults(objective=self.training.objective),
                "compression": self.compression.with_defaults(),
                "serving": self.serving.with_defaults(),
            }
        )

    def sources(self) -> dict[str, ModelSource | DataSource | Suite]:
        """What the job reads from elsewhere, by path below `spec`.

        Always `model` and `dataset.train`; others where the job names them.
        """
        kinds: tuple[type[ModelSource | DataSource | Suite], ...] = (ModelSource, DataSource, Suite)
        return {dotted(path): source for path, source in records_of(self, *kinds)}

    def secret_references(self) -> dict[str, SecretReference]:
        """The secrets with credentials that the job names, by path below `spec`."""
        return {dotted(path): secret for path, secret in records_of(self, SecretReference)}

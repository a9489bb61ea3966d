"""`spec.evaluation.suites`: tasks of lm-evaluation-harness, from files of the job's own."""

from typing import Annotated, Any, Final

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.field_types import SecretReference, ShortText
from tunesmith_api.rules import Rule
from tunesmith_api.uris import FolderUri

# The suites that Tunesmith measures itself.
OWN_SUITES: Final = (
    "heldOut",
    "general",
    "preference",
    "judge",
    "crossValidation",
    "robustness",
    "highlights",
)
_OWN: Final = ", ".join(f"'{name}'" for name in OWN_SUITES)

SuiteName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)
]
# lm-evaluation-harness writes a filter behind a comma: exact_match,strict-match.
MetricName = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z][-A-Za-z0-9_.,]*$", max_length=100)
]


class Suite(ApiModel):
    """A task of lm-evaluation-harness, for base and tuned model."""

    name: SuiteName = Field(description="What the results and the gates call it.")
    uri: FolderUri = Field(
        description="A folder with the task's YAML file and its data files; nothing is fetched "
        "from a hub."
    )
    secret_ref: SecretReference | None = Field(None, description="Credentials to read the folder.")
    task: ShortText = Field(description="The `task` that a YAML file of the folder defines.")
    limit: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None, DecidedLater("every row")
    ] = Field(None, description="The first rows only. Default: every row.")
    metric: Annotated[MetricName | None, DecidedLater("every metric of the task")] = Field(
        None, description="The one metric that counts. Default: every metric of the task."
    )
    num_fewshot: Annotated[
        Annotated[int, Field(ge=0, le=64)] | None, DecidedLater("what the task's file says")
    ] = Field(None, description="Solved examples in front. Default: what the task's file says.")


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="suite-name-is-free",
        scopes=("evaluation.suites.*",),
        field="name",
        holds=lambda suite: suite.name not in OWN_SUITES,
        cel=f"!(self.name in [{_OWN}])",
        message=f"{', '.join(OWN_SUITES[:-1])} and {OWN_SUITES[-1]} are suites already; choose "
        "another name",
    ),
)

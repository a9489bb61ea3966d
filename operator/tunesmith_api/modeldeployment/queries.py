"""`spec.rollout.analysis.queries`: the user's own PromQL, as further limits of a rollout."""

from enum import StrEnum
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.rules import Rule

# What `{{NAME}}` in a query stands for. The first three differ between the versions.
OF_ARM: Final = ("version", "revision", "role")
PLACEHOLDERS: Final = (*OF_ARM, "namespace", "deployment")
_PLACEHOLDER: Final = rf"\{{\{{({'|'.join(PLACEHOLDERS)})\}}\}}"
QueryName = Annotated[str, StringConstraints(pattern=r"^[a-z][A-Za-z0-9]{0,39}$", max_length=40)]
# PromQL has no {{ of its own, so that one which is no placeholder is a mistake.
QueryText = Annotated[
    str,
    StringConstraints(
        pattern=rf"^([^{{]|\{{[^{{]|{_PLACEHOLDER})+$", min_length=1, max_length=2048
    ),
]


class QueryProblem(StrEnum):
    """Why a query gave no number; one of these words is all that is told of it."""

    NO_PROMETHEUS = "NoPrometheus"
    UNREACHABLE = "Unreachable"
    REFUSED = "Refused"
    BAD_QUERY = "BadQuery"
    NO_DATA = "NoData"
    SEVERAL_SERIES = "SeveralSeries"
    NOT_A_NUMBER = "NotANumber"


class MetricQuery(ApiModel):
    """A query that gives one number for each version, and how much worse the candidate may be."""

    name: QueryName
    query: QueryText = Field(
        description="PromQL that gives one number, asked for stable and for the candidate: "
        "`{{version}}`, `{{revision}}` and `{{role}}` (stable or candidate) are filled in, and "
        "`{{namespace}}` and `{{deployment}}`."
    )
    worse: Literal["higher", "lower"] = Field(
        "higher", description="Whether a higher or a lower number is the worse one."
    )
    minimum_effect: Annotated[
        Annotated[float, Field(gt=0)] | None, DecidedLater("only limit counts")
    ] = Field(
        None,
        description="A reading is bad if the candidate's number is worse than stable's by so much, "
        "in the query's own unit. Default: only `limit` counts.",
    )
    limit: Annotated[float | None, DecidedLater("only minimumEffect counts")] = Field(
        None,
        description="A reading is bad if the candidate's number is worse than this. Default: only "
        "`minimumEffect` counts.",
    )
    consecutive: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="So many bad readings in a row roll back, as many good ones let promote."
    )
    required: bool = Field(
        True,
        description="true: without the good readings nothing is promoted, also if there are none. "
        "false: only bad readings hinder.",
    )


def _tells_versions_apart(query: MetricQuery) -> bool:
    return any(f"{{{{{name}}}}}" in query.query for name in OF_ARM)


_CEL_TELLS_APART: Final = " || ".join(f"q.query.contains('{{{{{name}}}}}')" for name in OF_ARM)

RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="query-has-a-bound",
        scopes=("rollout.analysis",),
        field="queries",
        holds=lambda limits: all(
            query.minimum_effect is not None or query.limit is not None for query in limits.queries
        ),
        cel="self.queries.all(q, has(q.minimumEffect) || has(q.limit))",
        message="a query without minimumEffect and limit decides nothing; give one of them",
    ),
    Rule(
        name="query-compares-versions",
        scopes=("rollout.analysis",),
        field="queries",
        holds=lambda limits: all(
            query.minimum_effect is None or _tells_versions_apart(query) for query in limits.queries
        ),
        cel=f"self.queries.all(q, !has(q.minimumEffect) || {_CEL_TELLS_APART})",
        message="a query with minimumEffect has to give each version a number of its own; use "
        "{{version}}, {{revision}} or {{role}} in it, or give a limit instead",
    ),
    Rule(
        name="query-names-differ",
        scopes=("rollout.analysis",),
        field="queries",
        holds=lambda limits: len({q.name for q in limits.queries}) == len(limits.queries),
        cel="self.queries.all(q, self.queries.exists_one(r, r.name == q.name))",
        message="names of queries have to differ; rename one",
    ),
)

"""`spec.training.fairness`: training that treats groups of people more alike."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from tunesmith_api.base import ApiModel
from tunesmith_api.field_markers import DecidedLater
from tunesmith_api.finetunejob.fairness import TermGroup
from tunesmith_api.rules import Rule

DEFAULT_STRENGTHS: Final[Mapping[str, float]] = {
    "pairedConsistency": 1.0,
    "reweighting": 1.0,
    "groupDro": 0.01,
}


class FairnessRemedy(ApiModel):
    """What is done about groups that training rows name, by the terms that name them.

    The paired gap of held-out rows, the loss with one group's terms and with another's, is measured
    along the way, and stands beside the loss on general text.
    """

    method: Literal["pairedConsistency", "reweighting", "groupDro"] = Field(
        description="pairedConsistency: a penalty on answers that change where a row's terms are "
        "those of another group; it takes a second row for each that names one group alone. "
        "reweighting: rows of rare groups count more, as if groups were alike in size (Kamiran & "
        "Calders 2012). groupDro: groups with a high loss count more and more, by an exponentiated "
        "gradient over groups (Sagawa et al. 2020, arXiv 1911.08731)."
    )
    groups: Annotated[list[TermGroup], Field(max_length=8)] = Field(
        default_factory=list,
        description="Whose terms are looked for. Default: women and men, in English.",
    )
    strength: Annotated[
        Annotated[float, Field(gt=0.0, le=100.0)] | None,
        DecidedLater("1 for pairedConsistency and reweighting, 0.01 for groupDro"),
    ] = Field(
        None,
        description="Of pairedConsistency, times the distance that is added to a target's loss. Of "
        "reweighting, from nothing at 0 to groups of one size at 1. Of groupDro, the step of the "
        "gradient. Default: 1 for pairedConsistency and reweighting, 0.01 for groupDro.",
    )
    distance: Annotated[
        Literal["symmetricKl", "logLikelihood"] | None,
        DecidedLater("logLikelihood", applies=lambda it: it.method == "pairedConsistency"),
    ] = Field(
        None,
        description="Of pairedConsistency. logLikelihood: the squared difference of the mean "
        "log-likelihoods of both answers. symmetricKl: half the divergence either way of each "
        "target, of rows whose answer names no group. Default: logLikelihood.",
    )

    @property
    def weight(self) -> float:
        """The strength that is given, or that of the method."""
        return DEFAULT_STRENGTHS[self.method] if self.strength is None else self.strength


RULES: Final[tuple[Rule[Any], ...]] = (
    Rule(
        name="distance-of-paired-consistency",
        scopes=("training.fairness",),
        field="distance",
        holds=lambda it: it.method == "pairedConsistency" or it.distance is None,
        cel="self.method == 'pairedConsistency' || !has(self.distance)",
        message="only pairedConsistency compares rows; leave distance out, or choose that method",
    ),
    Rule(
        name="reweighting-goes-to-one",
        scopes=("training.fairness",),
        field="strength",
        holds=lambda it: it.method != "reweighting" or it.strength is None or it.strength <= 1.0,
        cel="self.method != 'reweighting' || !has(self.strength) || self.strength <= 1.0",
        message="at 1 groups count as if they were of one size; give at most 1",
    ),
    Rule(
        name="remedied-groups-correspond",
        scopes=("training.fairness",),
        field="groups",
        holds=lambda it: (
            not it.groups
            or (len(it.groups) > 1 and len({len(group.terms) for group in it.groups}) == 1)
        ),
        cel="!has(self.groups) || self.groups.size() == 0 || (self.groups.size() > 1 && "
        "self.groups.all(one, one.terms.size() == self.groups[0].terms.size()))",
        message="a term is swapped for the one at its place in another group; give two groups or "
        "more, each with as many terms",
    ),
    Rule(
        name="fairness-remedy-stands-alone",
        scopes=("training",),
        field="fairness",
        holds=lambda training: (
            training.fairness is None
            or (
                training.objective == "sft"
                and training.adversarial is None
                and training.kl_to_base is None
            )
        ),
        cel="!has(self.fairness) || (self.objective == 'sft' && !has(self.adversarial) && "
        "!has(self.klToBase))",
        message="fairness changes the loss of sft by itself; leave adversarial and klToBase out, "
        "and choose objective: sft",
    ),
)

"""What a model card tells of pruning: what was cut, and what of the quality came back."""

from collections.abc import Mapping
from typing import Any, Final

from tunesmith_api.finetunejob.prune import CACHED_TOKENS
from tunesmith_trainer.publish.markdown import number, section, table
from tunesmith_trainer.publish.version_facts import VersionFacts

_NAMES: Final = {"tuned": "tuned", "pruned": "pruned", "distilled": "recovered"}
_AXES: Final = {
    "layers": "layers",
    "channels": "channels",
    "kvHeads": "heads of keys",
    "tokens": "tokens",
}
_MIB: Final = 1 << 20


def num_parameters_of(facts: VersionFacts) -> int:
    """Of the model that ships, whatever their type."""
    if facts.distilled.get("accepted"):
        return int(facts.distilled["ladder"][-1]["parameters"])
    return int(facts.prepared["modelFacts"]["numParameters"])


def distillation_section(facts: Mapping[str, Any]) -> list[str]:
    """The card's section from the facts of `distill`; none where nothing was pruned."""
    if not facts:
        return []
    ladder = [_row(rung) for rung in facts["ladder"]]
    suites = list(facts["recovery"])
    head = ("model", "parameters", "MiB in bf16", *(f"{suite} loss" for suite in suites), "KL")
    return [
        section(
            "Pruning and recovery",
            f"{_cut(facts)} Then {facts['numSteps']:,} steps over {facts['tokens']:,} tokens of "
            f"the job's own training rows, {facts['method']}, {_objective(facts)}.",
            table(head, ladder),
            "Losses, here and above, stand beside those of the tuned model; KL is that from it on "
            f"held-out rows. Held-out recovery is {number(facts['recovery']['heldOut'])}, of which "
            f"{number(facts['minRecovery'])} was asked. {_outcome(facts)}"
            "`distillation.json` has what stays of each layer.",
        )
    ]


def draft_section(facts: Mapping[str, Any]) -> list[str]:
    """The card's section from the facts of `draft`; none where no small model guesses."""
    if not facts:
        return []
    suites = list(facts["recovery"])
    head = ("model", "parameters", "MiB in bf16", *(f"{suite} loss" for suite in suites), "KL")
    return [
        section(
            "Draft",
            "`draft/` has a small model that guesses tokens, of which the served model keeps those "
            f"that it would have chosen: no answer is the draft's. {_cut(facts)} Then "
            f"{facts['numSteps']:,} steps over {facts['tokens']:,} tokens of the job's own "
            f"training rows, {facts['method']}, {_objective(facts)}.",
            table(head, [_row(rung) for rung in facts["ladder"]]),
            "`draft.json` has what stays of each layer.",
        )
    ]


def _cut(facts: Mapping[str, Any]) -> str:
    before, after = facts["shape"]["before"], facts["shape"]["after"]
    told = [
        f"{after[name]:,} of {before[name]:,} {words}"
        for name, words in _AXES.items()
        # Results of an earlier release have no tokens.
        if after.get(name) != before.get(name)
    ]
    return f"Of the tuned model {', '.join(told)} were kept."


def _objective(facts: Mapping[str, Any]) -> str:
    if facts["objective"] == "crossEntropy":
        return "on their answers alone"
    cached = CACHED_TOKENS.get(facts["logits"], "")
    return f"`{facts['objective']}` to the tuned model{cached}"


def _outcome(facts: Mapping[str, Any]) -> str:
    if facts["accepted"]:
        return "The recovered model is what ships. "
    return "The gate refused it, and the tuned model ships unpruned. "


def _row(rung: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        _NAMES.get(rung["model"], rung["model"]),
        f"{rung['parameters']:,}",
        f"{rung['bytes'] / _MIB:,.0f}",
        *(number(loss) for loss in rung["losses"].values()),
        number(rung["kl"]),
    )

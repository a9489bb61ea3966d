"""What `search` and `crossval` have found, put into the spec of the stages that read them.

`entry` asks before it calls a stage. A stage that reads neither has the spec as it was planned; the
keys of those that do digest the keys of both, and so all that decides the outcome here. Pure.
"""

from tunesmith_api.finetunejob.spec import FineTuneJobSpec
from tunesmith_engine.stages.contracts import StageName, StageRequest, StageResult
from tunesmith_engine.stages.search_space import Parameters, with_parameters

# Of `catalog.py`, which stands on the stages' contracts.
_SEARCH: StageName = "search"
_CROSSVAL: StageName = "crossval"


def with_chosen_settings(request: StageRequest) -> StageRequest:
    """The request with the settings of the best trial, and as many steps as the folds found best.

    Raises:
        BadInputError: the spec has been corrected since, and they no longer go with it.
    """
    spec = request.spec
    searched, folded = request.inputs.get(_SEARCH), request.inputs.get(_CROSSVAL)
    if searched is not None:
        spec = with_parameters(spec, best_parameters(searched))
    if folded is not None and spec.cross_validation is not None and spec.cross_validation.refit:
        spec = _refitted(spec, folded)
    return request if spec is request.spec else request.model_copy(update={"spec": spec})


def best_parameters(searched: StageResult) -> Parameters:
    """The settings of the best trial, by field path below `spec`."""
    best = searched.facts["best"]
    given = best["parameters"] if isinstance(best, dict) else None
    if not isinstance(given, dict):
        raise TypeError("the result of search has no best trial")
    return {
        field: value
        for field, value in given.items()
        if isinstance(value, bool | int | float | str)
    }


def _refitted(spec: FineTuneJobSpec, folded: StageResult) -> FineTuneJobSpec:
    steps = folded.facts["refitSteps"]
    if not isinstance(steps, int):
        raise TypeError("the result of crossval has no number of steps")
    # The folds have decided when to stop: a rule for it would decide it again, and a control run
    # has no more steps than the run itself.
    control = spec.training.control
    shorter = control.model_copy(update={"steps": min(control.steps, steps)}) if control else None
    training = spec.training.model_copy(
        update={"max_steps": steps, "epochs": None, "early_stopping": None, "control": shorter}
    )
    return spec.model_copy(update={"training": training})

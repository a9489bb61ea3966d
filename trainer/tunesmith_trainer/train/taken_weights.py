"""The weights of a search's best trial, taken as they are: `train` finds itself at its last step.

The artifact `weights` of `search` is what an interrupted run of these very settings would have
left: its checkpoints, and what was decided before its first step. Put in their place, `train`
restores the last one, has nothing left to do, and writes the weights of the best step.
"""

import shutil
from pathlib import Path
from typing import Final

from tunesmith_api.reasons import Reason
from tunesmith_engine.stages.contracts import CHECKPOINTS, StageName, StageRequest
from tunesmith_engine.stages.digests import local_path
from tunesmith_engine.stages.errors import BadInputError
from tunesmith_trainer.train import memory_plan, packing_choice, precision_probe
from tunesmith_trainer.train.checkpoints import Checkpoints
from tunesmith_trainer.train.config import TrainConfig

# The artifact of `search`.
WEIGHTS: Final = "weights"
_SEARCH: Final[StageName] = "search"
# Files of a stage's output by which a resumed run goes on as it began.
DECISIONS: Final = (precision_probe.ANSWER, memory_plan.ANSWER, packing_choice.ANSWER)


def is_taken(request: StageRequest) -> bool:
    """Whether the job takes the weights of its best trial."""
    search = request.spec.search
    return search is not None and not search.refit


def take_weights(request: StageRequest) -> None:
    """Put the best trial's checkpoints and decisions into the stage's output, if they are taken."""
    if not is_taken(request):
        return
    given, output = local_path(request.inputs[_SEARCH].artifact(WEIGHTS)), Path(request.output)
    shutil.copytree(given / CHECKPOINTS, output / CHECKPOINTS, dirs_exist_ok=True)
    for name in DECISIONS:
        if (given / name).exists():
            shutil.copyfile(given / name, output / name)


def refuse_other_run(output: Path, config: TrainConfig) -> None:
    """Return if what was taken is a run of this configuration: none is trained in its place.

    Raises:
        BadInputError: it is of another one, or spoilt.
    """
    checkpoints = Checkpoints(
        output / CHECKPOINTS,
        config_digest=config.digest(),
        keep=config.checkpoint.keep,
        settings=config.resolved(),
    )
    if checkpoints.newest() is None:
        raise BadInputError(
            Reason.INVALID_SPEC,
            "search.refit: the weights of the best trial are not those of a run of these settings "
            "here, the log says in what; set search.refit: true to train anew",
        )

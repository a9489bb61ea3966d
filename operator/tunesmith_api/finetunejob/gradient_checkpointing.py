"""`spec.training.gradientCheckpointing`: which layers compute their activations again.

One word, so that a plan and a report can show it: `none`, `all`, `every2`, or `auto`.
"""

from typing import Annotated, Final

from pydantic import StringConstraints

# NB: every1 would be another word for all.
GradientCheckpointing = Annotated[
    str, StringConstraints(pattern=r"^(auto|none|all|every([2-9]|[1-9][0-9]))$", max_length=7)
]

NONE: Final = "none"
ALL: Final = "all"
AUTO: Final = "auto"


def every_n_layers(setting: GradientCheckpointing) -> int | None:
    """How far apart the layers are that compute again; None where none does.

    Raises:
        ValueError: nobody has decided yet what `auto` is.
    """
    if setting == NONE:
        return None
    return 1 if setting == ALL else int(setting.removeprefix("every"))

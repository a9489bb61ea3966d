"""Marks on the fields of a spec that say who decides them, and where they matter.

They stand in a field's `Annotated`, beside its bounds, so that all that is known of a field is in
one place. `tunesmith_engine.planning.defaults` reads them for `tunesmith plan` and for the status;
the models and the CRDs take no notice of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PlannedDefault:
    """The default follows from other fields: `with_defaults` of the record fills it in.

    A default of the schema is one constant, and the API server stores it as if it had been given:
    neither does for a value that has to follow the method, the rank or the scheme.
    """


@dataclass(frozen=True, slots=True)
class DecidedLater:
    """The data, the model or the machine decides, by `rule`; the field stays None in a plan.

    `applies` sees the record that holds the field, and says whether the job has the question at
    all.
    """

    rule: str
    applies: Callable[[Any], bool] = lambda _: True


@dataclass(frozen=True, slots=True)
class ClusterOnly:
    """A run on one machine takes no notice of the field, nor of any field below it."""

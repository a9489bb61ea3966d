"""What a controller is: a record that the run loop, the event router and the metrics go by.

A second controller is one more of these, registered in `app.py`. Nothing in this package asks which
kind it has before it.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client.registry import Collector

from tunesmith_operator.controller.child_cache import ChildCache
from tunesmith_operator.controller.object_cache import ObjectCache
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.resources import Resource

# Brings the object one step on; returns the seconds after which to look again, None if nothing but
# news is a reason to. Whatever it raises has the key tried again, later each time.
Reconcile = Callable[[Key], Coroutine[Any, Any, float | None]]


# What is to be read over HTTP of the object of this namespace and name; None if there is nothing.
Document = Callable[[str, str], str | None]


@dataclass(frozen=True, slots=True)
class RelatedWatch:
    """A kind of objects that the controller's own depend on, and which nobody made for them.

    `keys_of` says which objects are to be looked at after news of one. Such a kind is watched where
    it is defined; no copies are kept.
    """

    resource: Resource
    keys_of: Callable[[Manifest], Iterable[Key]]


@dataclass(frozen=True, slots=True)
class Controller:
    """A kind, the function that looks at one object of it, and what is kept of what was told.

    `objects` holds copies of the objects themselves, `children` of what the controller makes for
    them, by the kinds that it was given; both are filled by the event router and read by
    `reconcile`. `collectors` are metrics of its own, which appear beside those of all controllers,
    and `documents` what it has to say of an object at length, by the word for it.
    """

    resource: Resource
    reconcile: Reconcile
    objects: ObjectCache = field(default_factory=ObjectCache)
    children: ChildCache = field(default_factory=ChildCache)
    related: tuple[RelatedWatch, ...] = ()
    collectors: tuple[Collector, ...] = ()
    documents: Mapping[str, Document] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.resource.kind

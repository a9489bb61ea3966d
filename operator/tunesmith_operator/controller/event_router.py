"""Which events put which key into the queue, and when.

The watches of `informer.py` tell of objects and their children; what they tell is noted in the
caches of the controller, and a key is added if it is worth a look. Nothing is decided here: a look
sees the whole object, so an event only says that there may be something to see.
"""

from collections.abc import Iterable
from typing import Final

from tunesmith_operator.controller.controller import Controller, RelatedWatch
from tunesmith_operator.controller.metrics import Metrics
from tunesmith_operator.controller.work_queue import Key, WorkQueue
from tunesmith_operator.kube.objects import Manifest, is_deleting

# Seconds for which events of a child that has not ended are gathered, since they come in bursts.
# While so many keys wait, for twice as long.
DEBOUNCE_S: Final = 1.0
MAX_DEBOUNCE_S: Final = 15.0
_SHORT_QUEUE: Final = 32

# What of an object makes a look worth while, and not merely its status: uid, generation, deletion,
# and a hash of its annotations, by which people give commands.
_Version = tuple[str, int, bool, int]


class EventRouter:
    """Notes what is told of the objects of all controllers, and decides what is worth a look."""

    def __init__(
        self, queue: WorkQueue, metrics: Metrics, controllers: Iterable[Controller]
    ) -> None:
        self._queue = queue
        self._metrics = metrics
        self.controllers = {controller.kind: controller for controller in controllers}
        self._routed: dict[Key, _Version] = {}

    def on_object(self, key: Key, manifest: Manifest, *, type_: str | None) -> None:
        """Note an event of an object itself.

        `type_` is that of the watch event; None stands for an object that was listed.
        """
        controller = self.controllers[key.kind]
        if type_ == "DELETED":
            self._routed.pop(key, None)
            controller.objects.forget(key)
            controller.children.forget(key)
            return
        controller.objects.note(key, manifest, is_created=type_ == "ADDED")
        if controller.objects.is_over(key):
            controller.children.drop_copies(key)
        metadata = manifest["metadata"]
        annotations = hash(tuple(sorted((metadata.get("annotations") or {}).items())))
        generation = metadata.get("generation", 0)
        version = (metadata["uid"], generation, is_deleting(manifest), annotations)
        # The operator's own writes to the status are no news; each would bring one look more. But
        # an object without a status was emptied by somebody, and is to begin anew.
        if type_ == "MODIFIED" and self._routed.get(key) == version and "status" in manifest:
            return
        self._routed[key] = version
        # Every list that is made anew tells of every object: those that are under way can wait.
        is_listed_again = type_ is None and "status" in manifest
        self._add(key, is_urgent=not is_listed_again)

    def on_child(self, key: Key, kind: str, manifest: Manifest, *, type_: str | None) -> None:
        """Note an event of a child of `key`, which is of `kind`."""
        controller, is_gone = self.controllers[key.kind], type_ == "DELETED"
        is_over = controller.children.note(
            key, kind, manifest, is_gone=is_gone, has_copy=not controller.objects.is_over(key)
        )
        # The end of a child is what the next step waits for; all else is progress.
        debounce_s = min(MAX_DEBOUNCE_S, DEBOUNCE_S * (1 + len(self._queue) / _SHORT_QUEUE))
        self._add(key, after_s=0.0 if is_over else debounce_s, is_urgent=is_over)

    def on_related(self, watch: RelatedWatch, manifest: Manifest) -> None:
        """Note an event of an object that objects of some controller depend on."""
        for key in watch.keys_of(manifest):
            self._add(key, is_urgent=False)

    def _add(self, key: Key, *, is_urgent: bool, after_s: float = 0.0) -> None:
        self._metrics.added(key)
        self._queue.add(key, after_s=after_s, is_urgent=is_urgent)

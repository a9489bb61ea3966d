"""How the operator refers to a FineTuneJob: its resource, its key in the queue, and as an owner."""

from dataclasses import dataclass
from typing import Final, Self

from tunesmith_api.base import GROUP, VERSION
from tunesmith_operator.controller.work_queue import Key
from tunesmith_operator.kube.objects import Manifest
from tunesmith_operator.kube.resources import Resource

FINE_TUNE_JOB: Final = Resource("FineTuneJob", GROUP, VERSION, "finetunejobs")


@dataclass(frozen=True, slots=True)
class JobRef:
    """The FineTuneJob that everything belongs to; one that is made again has another uid."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The job with this metadata."""
        metadata = manifest["metadata"]
        return cls(metadata["name"], metadata["namespace"], metadata["uid"])

    @property
    def key(self) -> Key:
        return Key(FINE_TUNE_JOB.kind, self.namespace, self.name)

    @property
    def owner_reference(self) -> Manifest:
        """What makes an object go when its job does."""
        return FINE_TUNE_JOB.owner_reference(self.name, uid=self.uid)

"""Whose an object is that has the name of one of ours: what others have made is never taken over.

Names can be taken: by the operator's own account, by a volume with somebody's data. An apply would
overwrite what is there, hand it to our pods, and have it go with its new owner.
"""

from typing import Any

from kubernetes.aio.client.exceptions import ApiException

from tunesmith_operator.kube.api_errors import CONFLICT, ForeignObjectError
from tunesmith_operator.kube.client import KubeClient
from tunesmith_operator.kube.objects import Manifest, is_deleting, owners_of


async def make_ours(client: KubeClient, manifest: Manifest) -> bool:
    """Create the object, and return whether it is new; one of the same owner stays as it is.

    Raises:
        ForeignObjectError: another object has its name.
        kubernetes.aio.client.exceptions.ApiException: the server refuses, or what has the name is
            of a deleted object and about to go.
    """
    if await client.create(manifest):
        return True
    kind, metadata = manifest["kind"], manifest["metadata"]
    there = await client.get(kind, metadata["namespace"], metadata["name"])
    if there is None:
        # It went between the two requests: looked at again.
        raise ApiException(status=CONFLICT, reason=f"{kind} {metadata['name']} has just gone")
    require_ours(there, manifest)
    return False


def require_ours(there: Manifest, wanted: Manifest, *, inherits: bool = False) -> None:
    """Do nothing if the object that is there has the owner of the one that is wanted.

    With `inherits`, an earlier owner of the same name, whatever its kind, will do.

    Raises:
        ForeignObjectError: it is somebody else's.
        kubernetes.aio.client.exceptions.ApiException: it is going, or its owner was deleted; the
            garbage collector is on its way.
    """
    kind, name = wanted["kind"], wanted["metadata"]["name"]
    owner = wanted["metadata"]["ownerReferences"][0]
    is_same = owner["uid"] in owners_of(there)
    names = {of.get("name") for of in _owner_references(there)}
    is_earlier = any(_is_earlier(of, owner) for of in _owner_references(there))
    if not (is_same or is_earlier or (inherits and owner["name"] in names)):
        raise ForeignObjectError(kind, name)
    if is_deleting(there) or not (is_same or inherits):
        raise ApiException(status=CONFLICT, reason=f"{kind} {name} is of a deleted {owner['kind']}")


async def delete_ours(
    client: KubeClient, kind: str, namespace: str, name: str, *, owner_uid: str
) -> None:
    """Delete the object of that name, if it is there and of this owner."""
    there = await client.get(kind, namespace, name)
    if there is not None and owner_uid in owners_of(there):
        await client.delete(kind, namespace, name)


def _owner_references(there: Manifest) -> list[dict[str, Any]]:
    return there["metadata"].get("ownerReferences") or []


def _is_earlier(of: dict[str, Any], owner: dict[str, Any]) -> bool:
    return (of.get("kind"), of.get("name")) == (owner["kind"], owner["name"])

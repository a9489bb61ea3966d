"""Remote places: one file system for each of hf, s3, gs, abfs and https, with its credentials.

Everything remote goes through this module except hub models, which have their own cache: what is
read (`downloads.py`, `fingerprints.py`), published (`object_target.py`), or kept for later stages
(`workspace_store.py`).
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import fsspec
from pydantic import JsonValue

from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import Secret
from tunesmith_engine.sources.errors import Role, SourceError, missing, translate_error
from tunesmith_engine.sources.local_paths import escape_all_but_stars
from tunesmith_engine.sources.web_guard import WebGuard
from tunesmith_engine.stages.digests import digest_json

_TIMEOUT_S: Final = 30
_ATTEMPTS: Final = 3

# What file systems call the marks by which a server tells one content from another. An ETag need
# not be a digest (S3's of a multipart upload is none), but it changes with the content. The size
# and the time are for web servers that give no ETag.
_MARKS: Final = (
    "ETag", "etag", "VersionId", "generation", "md5Hash", "blob_id", "LastModified",
    "Last-Modified", "Content-MD5", "size",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a remote place: its path there, and its size in bytes if known.

    `fingerprint` is a digest of the marks that its server gives its content.
    """

    path: str
    size: int | None
    fingerprint: str

    @property
    def name(self) -> str:
        """The last part of the path, without a URL's query."""
        return self.path.rstrip("/").rpartition("/")[2].partition("?")[0]


@dataclass(frozen=True, slots=True)
class RemoteStore:
    """A remote file system and the URI that it was opened for."""

    uri: str
    filesystem: Any
    role: Role

    @property
    def path(self) -> str:
        """The URI as the file system names it."""
        return str(self.filesystem._strip_protocol(self.uri))  # noqa: SLF001 - fsspec's documented hook

    def files(self) -> list[RemoteFile]:
        """The file at the URI, or those that its pattern matches, in order of path.

        Raises:
            SourceError: there is none, or it cannot be reached or read.
        """
        try:
            if "*" in self.path:
                paths = sorted(self.filesystem.glob(escape_all_but_stars(self.path)))
            else:
                paths = [self.path]
            # Listings of web servers carry no marks: each file is asked for its own.
            infos = [self.filesystem.info(path) for path in paths]
        except Exception as error:
            raise translate_error(error, uri=self.uri, role=self.role) from error
        files = [_remote_file(info) for info in infos if info["type"] == "file"]
        if not files:
            raise missing(self.uri, role=self.role)
        return sorted(files, key=lambda file: file.path)

    def files_below(self) -> list[RemoteFile]:
        """Every file below the URI as a folder; empty where nothing is.

        Raises:
            SourceError: it cannot be reached or read.
        """
        try:
            infos = self.filesystem.find(self.path, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise translate_error(error, uri=self.uri, role=self.role) from error
        return sorted(map(_remote_file, infos.values()), key=lambda file: file.path)


def open_store(uri: str, *, secret: Secret, role: Role) -> RemoteStore:
    """The file system that `uri` lies on.

    Raises:
        SourceError: the secret lacks a key that the file system needs, or holds an unusable one, or
            the file system's driver is not installed.
    """
    scheme = uri.partition("://")[0]
    require_driver(uri, role=role)
    options = _OPTIONS[scheme](secret)
    if scheme == "https":
        options["client_kwargs"]["middlewares"] = (WebGuard.of(uri, secret=secret, role=role),)
    # fsspec keeps one instance for each set of options, so that connections are used again. Its
    # cache of listings would show what was there a minute ago.
    filesystem = fsspec.filesystem(scheme, use_listings_cache=False, **options)
    return RemoteStore(uri=uri, filesystem=filesystem, role=role)


def require_driver(uri: str, *, role: Role) -> None:
    """Do nothing if the package that speaks the protocol of `uri` is installed.

    Raises:
        SourceError: EnvironmentMissing, it is not.
    """
    scheme = uri.partition("://")[0]
    try:
        fsspec.get_filesystem_class(scheme)
    except ImportError:
        package = _OPTIONAL_DRIVERS[scheme]
        raise SourceError(
            Reason.ENVIRONMENT_MISSING,
            f"{role.name}: {scheme}:// needs the package {package}, which is not installed beside "
            f"{sys.executable}; install it there, in a cluster in an image of your own.",
        ) from None


def _s3(secret: Secret) -> dict[str, Any]:
    region = secret.get("AWS_REGION")
    options: dict[str, Any] = {
        "endpoint_url": secret.get("AWS_ENDPOINT_URL"),
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": _TIMEOUT_S,
            "read_timeout": _TIMEOUT_S,
            "retries": {"max_attempts": _ATTEMPTS, "mode": "standard"},
        },
    }
    if secret.get("AWS_ACCESS_KEY_ID") is None:
        # NB: not left out. Without it, whatever profile or role lies on this machine would count.
        return {**options, "anon": True}
    return {
        **options,
        "key": secret.require("AWS_ACCESS_KEY_ID"),
        "secret": secret.require("AWS_SECRET_ACCESS_KEY"),
        "token": secret.get("AWS_SESSION_TOKEN"),
    }


def _gs(secret: Secret) -> dict[str, Any]:
    text = secret.get("GOOGLE_APPLICATION_CREDENTIALS_JSON")
    if text is None:
        return {"token": "anon"}
    try:
        return {"token": json.loads(text)}
    except ValueError:
        raise SourceError(
            Reason.SECRET_NOT_FOUND,
            f"key GOOGLE_APPLICATION_CREDENTIALS_JSON of secret '{secret.name}' is no JSON; write "
            "the content of a service account's key file there.",
        ) from None


def _azure(secret: Secret) -> dict[str, Any]:
    # The one text that names account, endpoint and key or signature.
    return {"connection_string": secret.require("AZURE_STORAGE_CONNECTION_STRING")}


def _hf(secret: Secret) -> dict[str, Any]:
    # NB: False, not None. None would send whatever token lies on this machine.
    return {"token": secret.get("HF_TOKEN") or False, "endpoint": secret.get("HF_ENDPOINT")}


def _https(secret: Secret) -> dict[str, Any]:
    token = secret.get("HTTP_BEARER_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {"client_kwargs": {"headers": headers}}


_OPTIONS: Final = {
    "s3": _s3,
    "gs": _gs,
    "abfs": _azure,
    "az": _azure,
    "hf": _hf,
    "https": _https,
}

# The rest belongs to every environment.
_OPTIONAL_DRIVERS: Final = {"abfs": "adlfs", "az": "adlfs"}


def _remote_file(info: Mapping[str, Any]) -> RemoteFile:
    marks: dict[str, JsonValue] = {
        mark: str(info[mark]) for mark in _MARKS if info.get(mark) is not None
    }
    return RemoteFile(path=info["name"], size=info.get("size"), fingerprint=digest_json(marks))

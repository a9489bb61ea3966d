"""One repository of an OCI registry, by the distribution specification 1.1 (opencontainers.org).

Credentials are those of a Secret of the type `kubernetes.io/dockerconfigjson`. Registries on
loopback are asked by http, as Docker does, all others by https.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpx2

from tunesmith_api.json_io import read_json
from tunesmith_api.reasons import Reason
from tunesmith_engine.sources.credentials import DOCKER_CONFIG, Secret
from tunesmith_engine.sources.errors import TARGET, SourceError
from tunesmith_engine.sources.web_guard import WebGuard

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_LOOPBACK: Final = re.compile(r"(localhost|127\.[0-9.]+)(:[0-9]+)?")
# What Docker's configuration calls Docker Hub.
_HUB_KEY: Final = "https://index.docker.io/v1/"
_TIMEOUT_S: Final = 60
_UNAUTHORIZED: Final = 401
_NOT_FOUND: Final = 404
Content = Callable[[], Iterator[bytes]]


class Registry:
    """The repository `repository` of the registry at `host`."""

    def __init__(self, host: str, repository: str, *, secret: Secret) -> None:
        scheme = "http" if _LOOPBACK.fullmatch(host) else "https"
        self._root = f"{scheme}://{host}/v2/{repository}/"
        self._repository = repository
        self._basic = _basic_auth(host, secret)
        self._authorization = self._basic
        # NB: trust_env would take credentials from this machine's ~/.netrc.
        # NB: of every request, so that a redirect or a realm leads nowhere else.
        guard = WebGuard.of(self._root, secret=secret, role=TARGET)
        self._client = httpx2.Client(
            timeout=_TIMEOUT_S,
            trust_env=False,
            event_hooks={"request": [lambda request: guard.check(str(request.url))]},
        )

    def has_blob(self, digest: str) -> bool:
        """Whether the blob is there."""
        answer = self._ask("HEAD", f"blobs/{digest}", missing_ok=True)
        return answer.status_code != _NOT_FOUND

    def put_blob(self, digest: str, content: Content, *, num_bytes: int) -> None:
        """Upload a blob in one piece; the registry proves it by its digest."""
        upload = urljoin(self._root, self._begin_upload())
        mark = "&" if "?" in upload else "?"
        headers = {"Content-Length": str(num_bytes), "Content-Type": "application/octet-stream"}
        self._ask("PUT", f"{upload}{mark}digest={digest}", content=content, headers=headers)

    def try_upload(self) -> None:
        """Begin an upload, and take it back."""
        self._ask("DELETE", urljoin(self._root, self._begin_upload()), missing_ok=True)

    def manifest(self, reference: str) -> tuple[bytes, Any] | None:
        """The bytes of a tag's manifest and what they say; None where there is none."""
        headers = {"Accept": MANIFEST_TYPE}
        answer = self._ask("GET", f"manifests/{reference}", headers=headers, missing_ok=True)
        if answer.status_code == _NOT_FOUND:
            return None
        return answer.content, read_json(answer.content)

    def put_manifest(self, tag: str, content: bytes) -> None:
        """Have `tag` mean this manifest."""
        headers = {"Content-Type": MANIFEST_TYPE}
        self._ask("PUT", f"manifests/{tag}", content=lambda: iter([content]), headers=headers)

    def blob(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob."""
        # A redirect leads to a store elsewhere; the client leaves the registry's credentials out.
        self._ask("HEAD", f"blobs/{digest}")
        with self._client.stream(
            "GET",
            f"{self._root}blobs/{digest}",
            headers=self._authorized({}, url=self._root),
            follow_redirects=True,
        ) as answer:
            answer.raise_for_status()
            yield from answer.iter_bytes(1 << 20)

    def _begin_upload(self) -> str:
        return str(self._ask("POST", "blobs/uploads/").headers["Location"])

    def _ask(
        self,
        method: str,
        path: str,
        *,
        content: Content | None = None,
        headers: dict[str, str] | None = None,
        missing_ok: bool = False,
    ) -> httpx2.Response:
        """Ask, and once more with a new token where the registry wants one."""
        url = urljoin(self._root, path)
        for is_last in (False, True):
            answer = self._client.request(
                method,
                url,
                content=content() if content else None,
                headers=self._authorized(headers or {}, url=url),
                # A blob that lies in a store elsewhere.
                follow_redirects=method in {"GET", "HEAD"},
            )
            if answer.status_code != _UNAUTHORIZED or is_last:
                break
            self._authorization = self._token(answer.headers.get("WWW-Authenticate", ""))
        if not (missing_ok and answer.status_code == _NOT_FOUND):
            answer.raise_for_status()
        return answer

    def _authorized(self, headers: dict[str, str], *, url: str) -> dict[str, str]:
        # NB: the registry says where to upload to; another host gets no credentials of this one.
        is_ours = urlsplit(url)[:2] == urlsplit(self._root)[:2]
        if self._authorization is None or not is_ours:
            return headers
        return {**headers, "Authorization": self._authorization}

    def _token(self, challenge: str) -> str | None:
        """What the registry asks to be shown, for reading and writing this repository."""
        if not challenge.lower().startswith("bearer "):
            return self._basic
        asked = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if self._root.startswith("https:") and not asked["realm"].startswith("https:"):
            # The password would go over the net in the clear.
            return self._basic
        answer = self._client.get(
            asked["realm"],
            params={
                **({"service": asked["service"]} if "service" in asked else {}),
                "scope": f"repository:{self._repository}:pull,push",
            },
            headers={"Authorization": self._basic} if self._basic else {},
        )
        answer.raise_for_status()
        token = read_json(answer.content)
        return f"Bearer {token.get('token') or token['access_token']}"


def _basic_auth(host: str, secret: Secret) -> str | None:
    """The header for `host`; None without a secret.

    Raises:
        SourceError: SecretNotFound, the secret has no such key, or nothing in it for `host`.
    """
    if not secret.name:
        return None
    text = secret.require(DOCKER_CONFIG)
    try:
        entries = json.loads(text)["auths"]
        entry = entries.get(host) or entries.get(f"https://{host}")
        if entry is None and host in {"docker.io", "index.docker.io", "registry-1.docker.io"}:
            entry = entries.get(_HUB_KEY)
        if entry is not None:
            plain = f"{entry.get('username')}:{entry.get('password')}"
            return f"Basic {entry.get('auth') or base64.b64encode(plain.encode()).decode()}"
    except (ValueError, KeyError, AttributeError, TypeError):
        because = f"is not what `kubectl create secret docker-registry` writes for {host}"
    else:
        because = f"holds no credentials for {host}"
    raise SourceError(
        Reason.SECRET_NOT_FOUND, f"key {DOCKER_CONFIG} of secret '{secret.name}' {because}."
    )

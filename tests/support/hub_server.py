"""A stand-in of the Hugging Face hub on loopback: what its client asks for, kept in memory.

Repositories have commits, branches and tags; large files go by the LFS batch API with the basic
transfer, which the client takes where a server offers no Xet.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

TOKENS = {"writer": "write", "reader": "read"}
# The hub asks for LFS by its .gitattributes and by size.
_LARGE = (".safetensors",)


@dataclass
class Repository:
    """Its refs, and the files of every commit."""

    private: bool
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], *, branch: str) -> str:
        """Move the branch on."""
        name = f"{len(self.commits)}{sorted(files)}".encode()
        sha = hashlib.sha1(name, usedforsecurity=False).hexdigest()
        self.commits[sha] = files
        self.refs[branch] = sha
        return sha

    def sha(self, revision: str) -> str | None:
        """The commit of a branch, tag or commit."""
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Hub:
    """What it holds, what was asked of it, and which commits it refuses."""

    url: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    refuse_tags: bool = False

    def files(self, repository: str, revision: str) -> dict[str, bytes]:
        """The files at a branch, tag or commit."""
        held = self.repositories[repository]
        return held.commits[held.sha(revision) or ""]


def let_client_reach_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's client online, and without Xet, which it takes whatever a server offers.

    It reads both from the environment when it is imported, and there HF_HUB_OFFLINE may be set.
    """
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub with the user `ada`, who is a member of `lab`."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._route("GET")

    def do_HEAD(self) -> None:
        self._route("HEAD")

    def do_POST(self) -> None:
        self._route("POST")

    def do_PUT(self) -> None:
        self._route("PUT")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _route(self, method: str) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{method} {path}")
        for verb, pattern, name in _ROUTES:
            match = re.fullmatch(pattern, path)
            if match and verb in {method, "GET" if method == "HEAD" else method}:
                getattr(self, name)(*match.groups())
                return
        self._answer(404, {"error": f"no route: {method} {path}"})

    def _answer(self, status: int, value: Any = None, **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _role(self) -> str | None:
        return TOKENS.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _may_write(self) -> bool:
        if self._role() == "write":
            return True
        self._answer(403 if self._role() else 401, {"error": "no right to write"})
        return False

    def _repository(self, name: str) -> Repository | None:
        held = self.hub.repositories.get(name)
        if held is None or (held.private and self._role() is None):
            self._answer(401, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")
            return None
        return held

    def _commit_of(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        held = self._repository(name)
        if held is None:
            return None
        sha = held.sha(revision)
        if sha is None:
            self._answer(404, {"error": "no revision"}, X_Error_Code="RevisionNotFound")
            return None
        return sha, held.commits[sha]

    def whoami(self) -> None:
        role = self._role()
        if role is None:
            self._answer(401, {"error": "Invalid user token."})
            return
        token = {"displayName": "test", "role": role}
        account = {"type": "user", "name": "ada", "orgs": [{"name": "lab"}]}
        self._answer(200, {**account, "auth": {"type": "access_token", "accessToken": token}})

    def auth_check(self, name: str) -> None:
        if self._repository(name) is not None and self._may_write():
            self._answer(200, {})

    def create(self) -> None:
        if not self._may_write():
            return
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or 'ada'}/{asked['name']}"
        if name in self.hub.repositories:
            self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
            return
        is_private = asked.get("visibility") == "private" or asked.get("private") is True
        held = self.hub.repositories[name] = Repository(private=is_private)
        held.commit({".gitattributes": b"*.safetensors filter=lfs\n"}, branch="main")
        self._answer(200, {"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def info(self, name: str, revision: str = "main") -> None:
        if (found := self._commit_of(name, revision)) is not None:
            siblings = [{"rfilename": path} for path in found[1]]
            self._answer(200, {"id": name, "modelId": name, "sha": found[0], "siblings": siblings})

    def tree(self, name: str, revision: str) -> None:
        if (found := self._commit_of(name, revision)) is not None:
            folders = {path.rpartition("/")[0] for path in found[1]} - {""}
            listed = [{"type": "directory", "path": path, "oid": "0"} for path in folders]
            self._answer(200, [*map(_entry, *zip(*found[1].items(), strict=True)), *listed])

    def paths_info(self, name: str, revision: str) -> None:
        found = self._commit_of(name, revision)
        if found is None:
            return
        try:
            paths = json.loads(self.body)["paths"]
        except ValueError:
            paths = parse_qs(self.body.decode())["paths"]
        self._answer(200, [_entry(path, found[1][path]) for path in paths if path in found[1]])

    def validate(self) -> None:
        self._answer(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, _revision: str) -> None:
        if self._repository(name) is None or not self._may_write():
            return
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(_LARGE) else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in json.loads(self.body)["files"]
        ]
        self._answer(200, {"files": modes})

    def batch(self, _name: str) -> None:
        if not self._may_write():
            return
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"href": f"{self.hub.url}/upload/{wanted['oid']}", "header": {}}
            has_it = wanted["oid"] in self.hub.blobs
            actions = {} if has_it else {"actions": {"upload": upload}}
            objects.append({"oid": wanted["oid"], "size": wanted["size"], **actions})
        self._answer(200, {"transfer": "basic", "objects": objects})

    def upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            self._answer(400, {"error": "another content"})
            return
        self.hub.blobs[oid] = self.body
        self._answer(200, {})

    def commit(self, name: str, branch: str) -> None:
        held = self._repository(name)
        if held is None or not self._may_write():
            return
        header, *lines = map(json.loads, self.body.splitlines())
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != held.refs[branch]:
            self._answer(412, {"error": "A commit has happened since."})
            return
        files = dict(held.commits[held.refs[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                del files[value["path"]]
        sha = held.commit(files, branch=branch)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        self._answer(200, {"success": True, "commitUrl": url, "commitOid": sha})

    def branch(self, name: str, branch: str) -> None:
        held = self._repository(name)
        if held is None or not self._may_write():
            return
        if branch in held.refs:
            self._answer(409, {"error": "exists"})
            return
        held.refs[branch] = held.refs["main"]
        self._answer(200, {})

    def tag(self, name: str, revision: str) -> None:
        held = self._repository(name)
        if held is None or not self._may_write():
            return
        if self.hub.refuse_tags:
            self._answer(500, {"error": "gone"})
            return
        tag = json.loads(self.body)["tag"]
        if tag in held.refs:
            self._answer(409, {"error": "exists"})
            return
        held.refs[tag] = held.sha(revision) or ""
        self._answer(200, {})

    def resolve(self, name: str, revision: str, path: str) -> None:
        found = self._commit_of(name, revision)
        if found is None:
            return
        if path not in found[1]:
            self._answer(404, {"error": "no entry"}, X_Error_Code="EntryNotFound")
            return
        content, status = found[1][path], 200
        headers = {"ETag": f'"{_entry(path, content)["oid"]}"', "X_Repo_Commit": found[0]}
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(part[1]), int(part[2] or len(content) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        self._answer(status, content, **headers)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "oid": blob, "size": len(content)}
    if path.endswith(_LARGE):
        oid = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(content), "pointerSize": 134}
    return entry


_NAME = r"([^/]+/[^/]+)"
_ROUTES = (
    ("GET", "/api/whoami-v2", "whoami"),
    ("POST", "/api/repos/create", "create"),
    ("POST", "/api/validate-yaml", "validate"),
    ("GET", rf"/api/models/{_NAME}/auth-check/write", "auth_check"),
    ("GET", rf"/api/models/{_NAME}/revision/(.+)", "info"),
    ("GET", rf"/api/models/{_NAME}", "info"),
    ("GET", rf"/api/models/{_NAME}/tree/([^/]+)", "tree"),
    ("POST", rf"/api/models/{_NAME}/paths-info/([^/]+)", "paths_info"),
    ("POST", rf"/api/models/{_NAME}/preupload/(.+)", "preupload"),
    ("POST", rf"/api/models/{_NAME}/commit/(.+)", "commit"),
    ("POST", rf"/api/models/{_NAME}/branch/(.+)", "branch"),
    ("POST", rf"/api/models/{_NAME}/tag/(.+)", "tag"),
    ("POST", rf"/{_NAME}\.git/info/lfs/objects/batch", "batch"),
    ("PUT", r"/upload/([0-9a-f]{64})", "upload"),
    ("GET", rf"/{_NAME}/resolve/([^/]+)/(.+)", "resolve"),
)

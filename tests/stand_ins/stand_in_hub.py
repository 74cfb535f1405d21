"""A stand-in for the Hugging Face hub: repositories in memory, and faults on demand.

    with StandInHub() as hub:
        commit = hub.add("model", "acme/tiny", {"config.json": b"{}", "model.safetensors": b"…"})
        # HF_ENDPOINT=hub.url
        hub.faults.busy = 2

Large files (by suffix) are served as the hub does: a redirect to another host name (the client insists on
that), with their sha256; the others with git's sha1. `hub.seen` has every request: method, path, status."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet")


@dataclass
class Repo:
    """One repository; `head` is what `main` names."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    head: str = ""
    token: str | None = None
    """Set: gated, and open to this token alone."""


@dataclass
class Faults:
    """What goes wrong. Counts go down with each request that is hit."""

    busy: int = 0
    """So many requests of the API are answered with `busy_status`."""
    busy_status: int = 429
    retry_after: str | None = "0"
    flip: int = 0
    """So many downloads of large files have one byte flipped."""
    cut: int = 0
    """So many downloads of large files break off half way."""
    stall: threading.Event | None = None
    """Set: a download of a large file stops half way until the event is set."""


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


class StandInHub:
    """The hub; `url` is its endpoint while it runs."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.faults = Faults()
        self.seen: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> StandInHub:
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.faults.stall is not None:
            self.faults.stall.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def add(self, kind: str, name: str, files: dict[str, bytes], token: str | None = None) -> str:
        """A new commit of the repository, its head from now on."""
        repo = self.repos.setdefault((kind, name), Repo())
        tree = "".join(f"{path} {git_sha1(data)}\n" for path, data in sorted(files.items()))
        commit = hashlib.sha1(tree.encode(), usedforsecurity=False).hexdigest()
        repo.commits[commit], repo.head, repo.token = files, commit, token
        return commit

    def hit(self, fault: str) -> bool:
        """Whether this request is hit by the fault; counts it down."""
        with self.lock:
            left = int(getattr(self.faults, fault))
            setattr(self.faults, fault, max(0, left - 1))
        return left > 0

    def downloads(self, path: str = "") -> int:
        """How many answers with a file's content, of the path or of all, were begun."""
        return sum(
            method == "GET" and status == 200 and not seen.startswith("/api/") and path in seen
            for method, seen, status in self.seen
        )


class Handler(BaseHTTPRequestHandler):
    """The part of the hub's API that its client uses to look at a repository and to download."""

    hub: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: `seen` has it."""

    def do_HEAD(self) -> None:
        self._route()

    def do_GET(self) -> None:
        self._route()

    def _route(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if found := re.fullmatch(r"/api/(model|dataset)s/([^/]+/[^/]+)/revision/(.+)", path):
            self._info(*found.groups())
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind = "dataset" if found[1] else "model"
            self._resolve(kind, found[2], found[3], found[4])
        elif found := re.fullmatch(r"/content/(model|dataset)/([^/]+/[^/]+)/([0-9a-f]{40})/(.+)", path):
            kind, name, commit, file = found.groups()
            self._content(self.hub.repos[kind, name].commits[commit][file])
        else:
            self._refuse(404, "EntryNotFound", "Entry not found")

    def _commit(self, kind: str, name: str, revision: str, content: bool) -> str | None:
        """The commit that the revision names; None where the request has been refused."""
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            self._refuse(401, "RepoNotFound", "Repository not found")
            return None
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if content and repo.token is not None and given != repo.token:
            self._refuse(403 if given else 401, "GatedRepo", f"Access to model {name} is restricted.")
            return None
        commit = repo.head if revision == "main" else revision
        if commit not in repo.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _info(self, kind: str, name: str, revision: str) -> None:
        if self.hub.hit("busy"):
            after = self.hub.faults.retry_after
            self._send(self.hub.faults.busy_status, b"busy", {"Retry-After": after} if after else {})
            return
        commit = self._commit(kind, name, revision, content=False)
        if commit is None:
            return
        siblings = []
        for path, data in self.hub.repos[kind, name].commits[commit].items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(data), "blobId": git_sha1(data)}
            if path.endswith(LARGE):
                sha256 = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 130}
            siblings.append(entry)
        info = {"_id": "0", "id": name, "modelId": name, "sha": commit, "siblings": siblings}
        info |= {"private": False, "gated": False, "disabled": False, "downloads": 0, "likes": 0, "tags": []}
        self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _resolve(self, kind: str, name: str, revision: str, file: str) -> None:
        commit = self._commit(kind, name, revision, content=True)
        if commit is None:
            return
        data = self.hub.repos[kind, name].commits[commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if data is None:
            self._send(404, b"", {**headers, "X-Error-Code": "EntryNotFound"})
        elif file.endswith(LARGE):
            sha256, port = hashlib.sha256(data).hexdigest(), self.server.server_address[1]
            headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data)), "ETag": '"cdn"'}
            headers["Location"] = f"http://localhost:{port}/content/{kind}/{name}/{commit}/{file}"
            self._send(302, b"", headers)
        else:
            self._send(200, data, {**headers, "ETag": f'"{git_sha1(data)}"'})

    def _content(self, data: bytes) -> None:
        """A large file, from the byte that `Range` names; faults hit here."""
        start, headers = 0, {"ETag": '"cdn"'}
        if found := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(found[1])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:]
        if self.hub.hit("flip"):
            body = body[:-1] + bytes([body[-1] ^ 1])
        half = None
        if self.hub.hit("cut") or self.hub.faults.stall is not None:
            half = len(body) // 2
        self._send(206 if start else 200, body, headers, half)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: dict[str, str], half: int | None = None) -> None:
        self.hub.seen.append((self.command, urlsplit(self.path).path, status))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        try:
            self.wfile.write(body[:half])
            self.wfile.flush()
            if half is not None:
                if self.hub.faults.stall is not None:
                    self.hub.faults.stall.wait()
                self.close_connection = True
        except OSError:  # the client was killed
            self.close_connection = True

"""A stand-in for the Hugging Face hub: repositories in memory or in files, and faults on demand.

    with StandInHub() as hub:
        commit = hub.add("model", "acme/tiny", {"config.json": b"{}", "model.safetensors": b"…"})
        # HF_ENDPOINT=hub.url
        hub.faults.busy = 2

Large files (by suffix or size) are served as the hub does: a redirect to another host name (the client
insists on that), with their sha256; the others with git's sha1. `hub.seen` has every request: method, path,
status."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pytest

LARGE = (".safetensors", ".bin", ".parquet")
LARGE_BYTES = 10_000_000
CHUNK = 1 << 20


@dataclass(frozen=True)
class Content:
    """A file of a repository: bytes, or a file that must not change."""

    source: bytes | Path
    size: int
    sha1: str
    """As git counts it."""
    sha256: str

    @classmethod
    def of(cls, source: bytes | Path) -> Content:
        size = source.stat().st_size if isinstance(source, Path) else len(source)
        sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
        for chunk in read(source, 0, size):
            sha256.update(chunk)
            git.update(chunk)
        return cls(source, size, git.hexdigest(), sha256.hexdigest())


def read(source: bytes | Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes from `start` up to `stop`, in pieces."""
    if isinstance(source, bytes):
        yield source[start:stop]
        return
    with source.open("rb") as stream:
        stream.seek(start)
        while start < stop and (chunk := stream.read(min(CHUNK, stop - start))):
            start += len(chunk)
            yield chunk


@dataclass
class Repo:
    """One repository; `head` is what `main` names."""

    commits: dict[str, dict[str, Content]] = field(default_factory=dict)
    head: str = ""
    branches: dict[str, str] = field(default_factory=dict)
    """Commits of further branches and tags."""
    token: str | None = None
    """Set: gated, and open to this token alone."""
    private: bool = False
    """Without the token it looks as if it did not exist."""

    def commit(self, revision: str) -> str | None:
        """What a revision names; None: nothing."""
        named = {"main": self.head, **self.branches}.get(revision.removeprefix("refs/heads/"), revision)
        return named if named in self.commits else None

    def is_large(self, commit: str, path: str) -> bool:
        return path.endswith(LARGE) or self.commits[commit][path].size >= LARGE_BYTES


@dataclass
class Faults:
    """What goes wrong. Counts go down with each request that is hit."""

    busy: int = 0
    """So many requests of the API are answered with `busy_status`."""
    busy_files: int = 0
    """So many requests of files, large or not, are answered with `busy_status`."""
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


class _Server(ThreadingHTTPServer):
    """One whose connections can be cut."""

    daemon_threads = True

    def __init__(self, listener: socket.socket, handler: Any) -> None:
        super().__init__(listener.getsockname()[:2], handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_port = listener.getsockname()[1]
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients of tests are killed in the middle."""

    def cut(self) -> None:
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class StandInHub:
    """The hub; `url` is its endpoint while it runs. It listens on this machine's loopback unless it is given
    a listener, with the names by which the hub and the host of its large files are reached there."""

    def __init__(
        self, listener: socket.socket | None = None, name: str = "127.0.0.1", files_name: str = "localhost"
    ) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.moved: dict[tuple[str, str], str] = {}
        """Earlier names of repositories, and where they redirect to."""
        self.faults = Faults()
        self.seen: list[tuple[str, str, int]] = []
        self.lock = threading.Lock()
        self._listener = listener or socket.create_server(("127.0.0.1", 0), backlog=128)
        port = self._listener.getsockname()[1]
        suffix = "" if port == 80 else f":{port}"
        self.url, self.files_url = f"http://{name}{suffix}", f"http://{files_name}{suffix}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.faults.stall is not None:
            self.faults.stall.set()
        self.stop()

    def start(self, listener: socket.socket | None = None) -> None:
        """Answers from now on; after a stop on a new listener, of the same address."""
        from tests.stand_ins.stand_in_hub_api import Handler

        self.server = _Server(listener or self._listener, type("Bound", (Handler,), {"hub": self}))
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def stop(self) -> None:
        """Ends all connections, and refuses others."""
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()
        self.server.cut()

    # What it has

    def add(
        self,
        kind: str,
        name: str,
        files: Mapping[str, bytes | Path],
        token: str | None = None,
        *,
        private: bool = False,
        branch: str = "main",
    ) -> str:
        """A new commit of the repository: its head from now on, or that of another branch. A `private` one
        does not exist for those without the token; else it is gated where there is a token."""
        repo = self.repos.setdefault((kind, name), Repo())
        contents = {path: Content.of(source) for path, source in files.items()}
        tree = "".join(f"{path} {content.sha1}\n" for path, content in sorted(contents.items()))
        commit = hashlib.sha1(tree.encode(), usedforsecurity=False).hexdigest()
        repo.commits[commit], repo.token, repo.private = contents, token, private
        if branch == "main":
            repo.head = commit
        else:
            repo.branches[branch] = commit
        return commit

    def add_folder(self, kind: str, name: str, folder: Path, token: str | None = None) -> str:
        """`add` with all files of a folder, which must stay as they are."""
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        return self.add(kind, name, files, token)

    # What was asked of it

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


@contextmanager
def the_only_hub(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[StandInHub]:
    """Runs one, which clients find in the hub's place; nobody is logged in."""
    for variable in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HF_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    with StandInHub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running

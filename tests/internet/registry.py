"""A real registry of images, docker-registry, under the unchanged name nvcr.io, with TLS.

Its storage is filled as the registry itself would: an image that is published is there at once, whether
the registry runs or not."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.internet import certificates
from tests.internet.images import Blob, Image, Index
from tests.internet.namespace import Internet
from tests.slurm.cluster import packages
from tests.slurm.cluster.commands import ClusterError, run, start_daemon, wait_until

NAME = "nvcr.io"
PORT = 443
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>\d{3}) ')


@dataclass(frozen=True)
class Request:
    """What somebody asked of a server, and its answer's status."""

    method: str
    path: str
    status: int


class Registry:
    """The registry of one internet; all its files lie in that one's folder. Use `up`."""

    def __init__(self, internet: Internet) -> None:
        self._internet = internet
        self._folder = internet.folder / "registry"
        self._log = self._folder / "log"
        self._storage = self._folder / "docker" / "registry" / "v2"

    @classmethod
    def up(cls, internet: Internet) -> Registry:
        """The registry, empty at first, running. One that is there already is used as it is."""
        packages.install(packages.REGISTRY)
        registry = cls(internet)
        registry._folder.mkdir(exist_ok=True)
        if not (registry._folder / "certificates").exists():
            certificate = certificates.make(NAME, registry._folder / "certificates")
            internet.set_variables({"SSL_CERT_FILE": str(certificate.trusted)})
        internet.add_name(NAME)
        registry.start()
        return registry

    # Life

    def start(self, user: str | None = None, password: str = "") -> None:
        """Starts it unless it runs. With a user, it lets nobody else in."""
        if self.running():
            return
        folder = self._folder / "certificates"
        tls = {"certificate": str(folder / f"{NAME}.pem"), "key": str(folder / f"{NAME}.key")}
        settings = {
            "version": "0.1",
            "log": {"level": "warn"},
            "storage": {"filesystem": {"rootdirectory": str(self._folder)}},
            "http": {"addr": f":{PORT}", "tls": tls, "secret": "tests"},
        }
        if user is not None:
            passwords = self._folder / "passwords"
            passwords.write_text(f"{user}:{_bcrypt(password)}\n")
            settings["auth"] = {"htpasswd": {"realm": NAME, "path": str(passwords)}}
        file = self._folder / "settings.yml"
        file.write_text(yaml.safe_dump(settings))
        start_daemon(self._internet.inside(["docker-registry", "serve", file]), self._log)
        wait_until(self._answers, "the registry to answer", 20)

    def stop(self) -> None:
        """Kills it: who is downloading hears that the connection is gone, others are refused."""
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.running(), "the registry to end", 10)

    def running(self) -> bool:
        return bool(self._pids())

    def restore(self) -> None:
        """Open to everybody again, and running."""
        if "auth:" in (self._folder / "settings.yml").read_text():
            self.stop()
        self.start()

    def _pids(self) -> list[int]:
        pids = run(["ip", "netns", "pids", self._internet.namespace]).split()
        return [int(pid) for pid in pids if _command(int(pid)) == "docker-registry"]

    def _answers(self) -> bool:
        try:
            with socket.create_connection((self._internet.address, PORT), timeout=1):
                return True
        except OSError:
            return False

    # What it has

    def publish(self, content: Image | Index, repository: str, tag: str) -> str:
        """Makes the image (or the index with its images) what `nvcr.io/<repository>:<tag>` names, and gives
        its digest. What the tag named before stays there, by digest."""
        home = self._storage / "repositories" / repository
        images = content.images if isinstance(content, Index) else (content,)
        for image in images:
            for blob in image.blobs:
                self._store(blob)
                _link(home / "_layers", blob.digest)
        for manifest in {content.manifest, *(image.manifest for image in images)}:
            self._store(manifest)
            _link(home / "_manifests" / "revisions", manifest.digest)
        named = home / "_manifests" / "tags" / tag
        _link(named / "index", content.manifest.digest)
        _write(named / "current" / "link", content.manifest.digest)
        return content.manifest.digest

    def unpublish(self, repository: str, tag: str) -> None:
        """Removes the tag. What it named stays there, by digest."""
        shutil.rmtree(self._storage / "repositories" / repository / "_manifests" / "tags" / tag)

    def _store(self, blob: Blob) -> None:
        file = self._blob(blob.digest)
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(blob.content, bytes):
            file.write_bytes(blob.content)
            return
        try:
            file.hardlink_to(blob.content)
        except OSError:  # the parts lie on another file system
            shutil.copyfile(blob.content, file)

    def _blob(self, digest: str) -> Path:
        algorithm, _, hexadecimal = digest.partition(":")
        return self._storage / "blobs" / algorithm / hexadecimal[:2] / hexadecimal / "data"

    @contextmanager
    def damaged(self, blob: Blob) -> Iterator[None]:
        """With it, one byte in the middle of what the registry sends for that blob is wrong."""
        file = self._blob(blob.digest)
        aside = file.with_name("whole")
        # Another file: the whole one may be shared with the parts
        file.rename(aside)
        content = bytearray(aside.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        try:
            yield
        finally:
            aside.replace(file)

    # What was asked of it

    def mark(self) -> int:
        """Where the log is now, for `requests`."""
        return len(self._entries())

    def requests(self, since: int = 0) -> list[Request]:
        """What it has answered since the mark. An answer is in the log when all of it has been sent."""
        return self._entries()[since:]

    def _entries(self) -> list[Request]:
        found = _ACCESS.finditer(self._log.read_text(errors="replace"))
        return [Request(entry["method"], entry["path"], int(entry["status"])) for entry in found]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _link(folder: Path, digest: str) -> None:
    algorithm, _, hexadecimal = digest.partition(":")
    _write(folder / algorithm / hexadecimal / "link", digest)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name("link.new")
    aside.write_text(text)
    aside.replace(file)


def _bcrypt(password: str) -> str:
    """A password as the registry wants it. Perl is on every Debian, and its crypt is the system's."""
    salt = "$2y$05$" + hashlib.sha256(os.urandom(16)).hexdigest()[:22]
    hashed = run(
        ["perl", "-e", "chomp($_ = <STDIN>); print crypt($_, $ARGV[0])", salt], stdin=password + "\n"
    )
    if not hashed.startswith("$2"):
        raise ClusterError("this machine's crypt knows no bcrypt")
    return hashed

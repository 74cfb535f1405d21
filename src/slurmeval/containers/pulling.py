"""Pulling an image by its digest: Apptainer downloads the layers and builds the SIF, all in one folder.

Each image has a cache of its own while it is pulled, `<images>/.pulling/<id>-<key>/cache`. Layers that a
killed pull had downloaded are there for the next attempt, and all is removed once the SIF is made. One cache
for all images would not do: Apptainer writes its index in place, and of two pulls that end at once one loses
its image.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from slurmeval.containers.apptainer import Apptainer
from slurmeval.containers.check import this_architecture
from slurmeval.containers.layers import (
    REMEDY,
    PullProgress,
    downloaded_bytes,
    remove_partial,
    require_space,
)
from slurmeval.containers.reference import Reference
from slurmeval.containers.registry import Registry, gone, refused
from slurmeval.containers.registry_login import find_login
from slurmeval.disk import full_error, remove_tree, reports_full
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_atomically
from slurmeval.progress import Progress, size_text
from slurmeval.retrying import Retry, backoff_s, call_with_retries
from slurmeval.subprocesses import run_bound

PULL_ATTEMPTS = 4
"""Attempts per pull on network errors. Finished layers are kept."""
_REFUSED = re.compile(
    r"UNAUTHORIZED|DENIED|unexpected status code (401|403)|\b(401 Unauthorized|403 Forbidden)"
)
_GONE = re.compile(r"MANIFEST_UNKNOWN|BLOB_UNKNOWN|unexpected status code 404")
_NETWORK = re.compile(
    r"connection refused|connection reset|no such host|i/o timeout|TLS handshake|unexpected EOF|broken pipe|"
    r"network is unreachable|no route to host|server misbehaving|unexpected status code (408|429|5\d\d)|"
    r"TOOMANYREQUESTS|http2: ",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"https?://[^\s\"'<>]+")


def pull(
    what: str,
    reference: Reference,
    sif: Path,
    apptainer: Apptainer,
    progress: Progress,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Makes `sif`, which is not there, from the image that `reference` names by digest.

    Killed at any point it leaves no file of that name.

    Raises:
        UserError: The login, the digest, the architecture or the disk does not do.
        SlurmevalError: The network or Apptainer fails.
    """
    work = work_folder(sif)
    registry = Registry(what, reference, progress, sleep)
    layers = registry.layers(str(reference.digest), this_architecture())
    blobs = work / "cache" / "cache" / "blob" / "blobs" / "sha256"
    remove_tree(work / "tmp")
    (work / "tmp").mkdir(parents=True)
    (work / "image.sif").unlink(missing_ok=True)
    remove_partial(blobs)
    require_space(what, sif.parent, layers, downloaded_bytes(blobs, layers))
    pulled = PullProgress(what, blobs, layers, progress)
    here = size_text(pulled.download.begin)
    progress(f"{what}: {size_text(pulled.total)} in {len(layers)} layers, {here} are here")
    started = time.monotonic()
    builder = _Builder(what, reference, sif, apptainer, pulled)
    call_with_retries(what, builder.build, _judge, progress, PULL_ATTEMPTS, sleep)
    (work / "image.sif").rename(sif)
    remove_tree(work)
    seconds = time.monotonic() - started
    progress(f"{what}: {size_text(sif.stat().st_size)}, {seconds:.0f} s")


def work_folder(sif: Path) -> Path:
    """Returns the folder for all that a pull needs until the SIF is made."""
    return sif.parent / ".pulling" / sif.stem


def log_of(sif: Path) -> Path:
    """Returns the log of Apptainer for a SIF."""
    return sif.with_suffix(".log")


class _NetworkError(SlurmevalError):
    """A pull that ended because the connection broke."""


def _judge(result: object, number: int) -> Retry | None:
    return Retry("the connection broke", backoff_s(number)) if isinstance(result, _NetworkError) else None


class _Builder:
    """Runs Apptainer to build the SIF."""

    def __init__(
        self, what: str, reference: Reference, sif: Path, apptainer: Apptainer, progress: PullProgress
    ) -> None:
        self.what, self.reference, self.apptainer, self.progress = what, reference, apptainer, progress
        self.work, self.log = work_folder(sif), log_of(sif)
        self.login = find_login(reference.host)
        # `build`, not `pull`: that makes the SIF in its cache and copies it from there
        source = reference.at(str(reference.digest))
        self.argv = apptainer.argv("build", "--force", str(self.work / "image.sif"), source)

    def build(self) -> None:
        """Runs Apptainer once.

        Raises:
            UserError: The login, the digest, the certificate or the disk does not do.
            SlurmevalError: Apptainer fails; `_NetworkError` if it is the connection.
        """
        # for its owner only: addresses in it may hold a key
        write_atomically(self.log, "", mode=0o600)
        returncode, output = run_bound(
            self.argv, self.log, self._environment(), self.work, self.progress.report
        )
        if returncode != 0:
            self._clear()
            raise self._failure(returncode, output)

    def _clear(self) -> None:
        (self.work / "image.sif").unlink(missing_ok=True)
        remove_tree(self.work / "tmp")
        (self.work / "tmp").mkdir()

    def _environment(self) -> dict[str, str]:
        environment = self.apptainer.environment()
        variables = {
            "CACHEDIR": str(self.work / "cache"),
            "TMPDIR": str(self.work / "tmp"),
            "DISABLE_CACHE": "false",
        }
        if self.login is not None and self.login.password:
            variables |= {"DOCKER_USERNAME": self.login.username, "DOCKER_PASSWORD": self.login.password}
        for program in ("APPTAINER", "SINGULARITY"):  # a program of one name may read the other's
            environment |= {f"{program}_{name}": value for name, value in variables.items()}
        return environment | {"TMPDIR": str(self.work / "tmp")}

    def _failure(self, returncode: int, output: str) -> SlurmevalError:
        """Returns what Apptainer said as an error of one line."""
        lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("FATAL", "ERROR"))] or lines
        text = _ADDRESS.sub(lambda found: found.group().partition("?")[0], (fatal or ["no reason given"])[-1])
        if reports_full(output):
            return full_error(self.what, self.work.parents[1], REMEDY)
        if "x509:" in text or "certificate" in text:
            return UserError(
                f"{self.what}: the certificate of {self.reference.host} is not trusted: set SSL_CERT_FILE "
                f"to a file with the certificate of its authority (log: {self.log})"
            )
        if _REFUSED.search(text):
            return refused(self.what, self.reference, 401, self.login)
        if _GONE.search(text):
            return gone(self.what, self.reference)
        if returncode == 127:
            return UserError(f"{self.what}: {self.apptainer.program} cannot be run: {text} (log: {self.log})")
        ended = f"was killed by signal {-returncode}" if returncode < 0 else "fails"
        kind = _NetworkError if _NETWORK.search(output) else SlurmevalError
        return kind(f"{self.what}: `{self.apptainer.program} build` {ended}: {text[-300:]} (log: {self.log})")


def remove_remains(sif: Path) -> None:
    """Removes what a pull of this SIF has left, including layers."""
    remove_tree(work_folder(sif))
    parent = work_folder(sif).parent
    if parent.is_dir() and not any(parent.iterdir()):
        shutil.rmtree(parent, ignore_errors=True)

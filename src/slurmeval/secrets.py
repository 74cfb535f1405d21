"""Secrets: tokens and keys that jobs need.

The config names them. Their values stand in files that only their owner can read, and in the environment of
those processes that need them. docs/secrets.md says more.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import mmap
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from pathlib import Path
from urllib.parse import quote

from slurmeval.config.messages import Problem, dotted
from slurmeval.config.models import Config, Secret
from slurmeval.config.yaml_files import shown
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_atomically
from slurmeval.ownership import live_owner
from slurmeval.paths import Paths
from slurmeval.processes import identity

HUB = ("HF_TOKEN",)
"""What staging from the hub takes, where the config names it."""

REGISTRY = (
    "APPTAINER_DOCKER_USERNAME",
    "APPTAINER_DOCKER_PASSWORD",
    "SINGULARITY_DOCKER_USERNAME",
    "SINGULARITY_DOCKER_PASSWORD",
)
"""What pulling images takes, where the config names it: the variables of the programs themselves."""

SECRET_LIMIT_BYTES = 65536
"""Largest secret."""

SECRET_MINIMUM_LENGTH = 8
"""Characters. A shorter secret may be any word of a log."""


def needed(config: Config, benchmarks: Iterable[str]) -> list[str]:
    """Returns the secrets for a run of these benchmarks: for staging, of its servers, and for harnesses."""
    named = (name for benchmark in benchmarks for name in config.benchmarks[benchmark].secrets)
    servers = (config.servers[config.models[model].server] for model in config.served_models)
    keys = [server.api_key for server in servers if server.api_key is not None]
    return [name for name in dict.fromkeys([*HUB, *REGISTRY, *keys, *named]) if name in config.secrets]


def problems(
    config: Config, project: Path, names: Iterable[str], environment: Mapping[str, str] = os.environ
) -> list[Problem]:
    """Returns why secrets of the config cannot be read. No text holds a value.

    Args:
        config: The config.
        project: The folder that a secret's `file` is relative to.
        names: The secrets.
        environment: The variables.
    """
    read = (_read(name, config.secrets[name], project, environment) for name in names)
    return [found for found in read if isinstance(found, Problem)]


def values(
    config: Config, project: Path, names: Iterable[str], environment: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Returns secrets of the config by name, for commands that run outside a run.

    Raises:
        UserError: One cannot be read.
    """
    found: dict[str, str] = {}
    for name in names:
        read = _read(name, config.secrets[name], project, environment)
        if isinstance(read, Problem):
            raise UserError(f"{dotted(read.key)}: {read.text}")
        found[name] = read
    return found


def hand_out(
    config: Config,
    project: Path,
    benchmarks: Sequence[str],
    folder: Path,
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Writes the secrets that a run of these benchmarks needs into `folder`, for its jobs.

    Removes all secrets of the config from `environment`, so that nothing that this process starts inherits
    one.

    Raises:
        UserError: One cannot be read.
    """
    found = values(config, project, needed(config, benchmarks), environment)
    if found:
        make_private(folder)
    for name, value in found.items():
        write_atomically(folder / name, value, mode=0o600)
    for name in config.secrets:
        environment.pop(name, None)


def take(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Returns secrets by name, as the run handed them out.

    Raises:
        SlurmevalError: One is not there.
    """
    found = {}
    for name in names:
        try:
            found[name] = (folder / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SlurmevalError(
                f"the secret {name} is not in {folder}: the run that handed it out is over; start it again"
            ) from None
    return found


def lend(
    folder: Path,
    listed: Iterable[str],
    names: Iterable[str],
    environment: MutableMapping[str, str] = os.environ,
) -> None:
    """Puts secrets that the run handed out into this process's environment, for a process that fetches.

    Args:
        folder: The folder of secrets.
        listed: The secrets of the config.
        names: Those to put there, if listed (`HUB`, `REGISTRY`).
        environment: The variables.

    Raises:
        SlurmevalError: One is not there.
    """
    wanted = set(listed)
    environment.update(take(folder, [name for name in names if name in wanted]))


def withdraw_unused(paths: Paths) -> None:
    """Removes the secrets that were handed out.

    They stay if another run is under way here, or evaluations of this or an earlier run go on.
    """
    owner = live_owner(paths.controller)
    if owner is not None and not owner.is_same_process(identity()):
        return
    if not any(paths.leases.glob("*/*.json")):
        shutil.rmtree(paths.secrets, ignore_errors=True)


def make_private(folder: Path) -> None:
    """Makes a folder that only its owner can enter, or makes an existing one so.

    Raises:
        UserError: The file system does not keep that, or the folder is another user's.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise UserError(f"{folder}: is no folder of yours, and secrets are to lie there; remove it")
    if status.st_mode & 0o077:
        folder.chmod(0o700)
    if folder.lstat().st_mode & 0o077:
        raise UserError(
            f"{folder}: this file system lets others read all files; put results on another (results: …)"
        )


def scrub(folder: Path, secrets: Mapping[str, str]) -> list[Path]:
    """Overwrites every secret in the files below `folder` (or in this one file) with asterisks.

    Finds it as it is, in base64, and with the escapes of addresses, JSON and HTML. Secrets of less than
    SECRET_MINIMUM_LENGTH characters are left, because they may be any word.

    Returns the files that held one.
    """
    looked_for = sorted({form for value in secrets.values() for form in _forms(value)}, key=len, reverse=True)
    return [file for file in _files(folder) if _scrub_file(file, looked_for)] if looked_for else []


def _read(name: str, secret: Secret, project: Path, environment: Mapping[str, str]) -> str | Problem:
    """Returns a secret's value, or why there is none."""
    if secret.file is None:
        text = environment.get(name, "").strip()
        if not text:
            todo = "export it where Snakemake is started, or name a file (file: …)"
            return Problem(("secrets", name), f"the variable {name} is not set: {todo}")
        reason = _unfit(text)
        return Problem(("secrets", name), f"the variable {name} {reason}") if reason else text
    try:
        text = _content(project / Path(secret.file).expanduser())
        reason = _unfit(text)
    except UnicodeDecodeError:
        reason = "is no text"
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except (UserError, RuntimeError) as error:  # RuntimeError: there is no such home folder
        reason = str(error)
    return Problem(("secrets", name, "file"), f"{shown(secret.file)} {reason}") if reason else text


def _content(file: Path) -> str:
    """Returns the content of a file that only its owner can read.

    Raises:
        UserError: It does not do; the text continues the file's name.
        OSError: It cannot be read.
        UnicodeDecodeError: It is no text.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        raise UserError("is no file")
    with file.open("rb") as stream:
        status = os.fstat(stream.fileno())
        if mode := stat.S_IMODE(status.st_mode) & 0o077:
            who = "others" if mode & 0o007 else "its group"
            raise UserError(f"is open to {who} (mode {stat.S_IMODE(status.st_mode):04o}): chmod 600")
        if status.st_size > SECRET_LIMIT_BYTES:
            raise UserError(f"has {status.st_size} bytes; expected the secret alone")
        return stream.read().decode().strip()


def _unfit(text: str) -> str | None:
    """Returns why a text is no secret, or None."""
    if not text:
        return "is empty"
    if len(text.splitlines()) > 1:
        return f"has {len(text.splitlines())} lines; expected the secret alone"
    return None if text.isprintable() else "holds characters that cannot be printed"


def _forms(value: str) -> Iterator[bytes]:
    """Yields the forms that a secret may have in a file."""
    if len(value) < SECRET_MINIMUM_LENGTH:
        return
    for text in (value, quote(value, safe=""), quote(value), html.escape(value)):
        yield text.encode()
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1].encode()
    raw = value.encode()
    for before in range(3):  # base64 of `user:secret` differs by how many characters stand before
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            yield encode(b"\0" * before + raw)[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def _files(folder: Path) -> Iterator[Path]:
    """Yields the regular files below a folder, or this one. Links are not followed."""
    if folder.is_file():
        yield folder
    for place, _, names in os.walk(folder):
        for name in names:
            path = Path(place, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _scrub_file(file: Path, looked_for: Sequence[bytes]) -> bool:
    """Overwrites in place and at the same length, which works on a full disk too."""
    status = file.stat()
    if status.st_size == 0:
        return False
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if all(content.find(form) < 0 for form in looked_for):
            return False
    if not status.st_mode & stat.S_IWUSR:
        file.chmod(0o600)
    with file.open("r+b") as writable, mmap.mmap(writable.fileno(), 0) as content:
        for form in looked_for:
            while (place := content.find(form)) >= 0:
                content[place : place + len(form)] = b"*" * len(form)
    return True

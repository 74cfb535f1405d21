"""Logins for registries, as `apptainer registry login` and `docker login` store them.

Names and passwords reach only registries and the environment of the program that pulls: no message, no
command line and no file of ours holds them.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slurmeval.errors import UserError

HELPER_LIMIT_S = 30.0
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_TOKEN_USER = "<token>"
"""What a helper gives as the name where the secret is an identity token."""


@dataclass(frozen=True)
class Login:
    """Login: a name with a password, or an identity token. Its text shows neither."""

    source: str
    """Where it was found, for messages."""
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


def find_login(host: str) -> Login | None:
    """Returns the login for a registry, or None if nobody has logged in.

    Apptainer's own variables come first, as in Apptainer; they are given to every registry that asks.

    Raises:
        UserError: A file or a helper cannot be read.
    """
    for program in ("APPTAINER", "SINGULARITY"):
        name, password = f"{program}_DOCKER_USERNAME", f"{program}_DOCKER_PASSWORD"
        if os.environ.get(name) and os.environ.get(password):
            return Login(name, os.environ[name], os.environ[password])
    for file in _files():
        if (login := _from_file(file, host)) is not None:
            return login
    return None


def _files() -> Iterator[Path]:
    if folder := os.environ.get("APPTAINER_CONFIGDIR"):
        yield Path(folder) / "docker-config.json"
    home = Path(os.environ.get("HOME") or "/nonexistent")
    yield home / ".apptainer" / "docker-config.json"
    yield home / ".singularity" / "docker-config.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _from_file(file: Path, host: str) -> Login | None:
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{file}: the registries' logins cannot be read: {error.strerror}") from None
    except ValueError:
        # of a broken file nothing is shown: it holds passwords
        raise UserError(f"{file}: is no JSON; remove it and log in again") from None
    if not isinstance(content, Mapping):
        return None
    keys = _keys(host)
    for key, name in _mapping(content.get("credHelpers")).items():
        if _host_of(key) in keys:
            return _from_helper(str(name), host, file)
    entries = [entry for key, entry in _mapping(content.get("auths")).items() if _host_of(key) in keys]
    for entry in entries:
        if (login := _from_entry(_mapping(entry), str(file))) is not None:
            return login
    store = content.get("credsStore")
    return _from_helper(str(store), host, file) if store else None


def _from_entry(entry: Mapping[str, Any], source: str) -> Login | None:
    if entry.get("identitytoken"):
        return Login(source, identity_token=str(entry["identitytoken"]))
    name, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            name, _, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise UserError(f"{source}: a login in it cannot be read; log in again") from None
    return Login(source, name, password) if name and password else None


def _from_helper(name: str, host: str, file: Path) -> Login | None:
    """Asks `docker-credential-<name>` by its protocol. What it prints is not shown."""
    program = f"docker-credential-{name}"
    server = _DOCKER_HUB_KEY if host in _DOCKER_HUB else host
    try:
        done = subprocess.run(
            [program, "get"],
            input=server,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=HELPER_LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        raise UserError(f"{file}: {program}, which keeps the logins, cannot be run") from None
    if done.returncode != 0:  # it has none for this registry
        return None
    try:
        answer = _mapping(json.loads(done.stdout))
    except ValueError:
        raise UserError(f"{file}: {program} gives no JSON") from None
    user, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    if user == _TOKEN_USER:
        return Login(program, identity_token=secret)
    return Login(program, user, secret) if user and secret else None


def _keys(host: str) -> tuple[str, ...]:
    return _DOCKER_HUB if host in _DOCKER_HUB else (host,)


def _host_of(key: str) -> str:
    """Returns `nvcr.io` of `https://nvcr.io/v2/`."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

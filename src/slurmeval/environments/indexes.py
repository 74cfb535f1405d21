"""Pip's configuration, translated for uv.

A cluster tells pip once where packages come from (a mirror, a folder of wheels, a proxy, a certificate) in
`pip.conf` or in `PIP_*` variables. uv reads neither, so it gets its own variables. What the user has set for
uv itself wins. Everything goes through the environment: an index's address may hold a password, and a command
line is seen by everyone on the machine.

`python -m slurmeval.environments.indexes ARGUMENT…` runs uv in this way (for `scripts/setup`).
"""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from slurmeval.errors import UserError

# pip's option -> uv's variable, and what separates several values there.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", None),
    "extra-index-url": ("UV_EXTRA_INDEX_URL", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "timeout": ("UV_HTTP_TIMEOUT", None),
    "default-timeout": ("UV_HTTP_TIMEOUT", None),
    "retries": ("UV_HTTP_RETRIES", None),
    "cert": ("SSL_CERT_FILE", None),
    "client-cert": ("SSL_CLIENT_CERT", None),
    "proxy": ("ALL_PROXY", None),
}
# Of two sections that set one option, pip takes the later one of these.
_SECTIONS = ("global", "install", "download", ":env:")


def pip_interpreter() -> str:
    """Returns a Python that has pip: this one, or the one that this environment was made from.

    Raises:
        UserError: Neither has it.
    """
    candidates = dict.fromkeys([sys.executable, getattr(sys, "_base_executable", sys.executable)])
    for python in candidates:
        probe = "import importlib.util, sys; sys.exit(importlib.util.find_spec('pip') is None)"
        if subprocess.run([python, "-c", probe], check=False).returncode == 0:
            return python
    raise UserError(f"pip is missing in {' and '.join(candidates)}: run scripts/setup")


@functools.cache
def pip_configuration() -> Mapping[str, str]:
    """Returns pip's options from all of its files and from `PIP_*`, as pip merges them.

    Raises:
        UserError: Pip cannot read its own files.
    """
    argv = [pip_interpreter(), "-m", "pip", "--disable-pip-version-check", "config", "list"]
    listed = subprocess.run(
        argv, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False
    )
    if listed.returncode != 0:
        reason = (listed.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"pip cannot read its configuration: {reason}")
    return parse_pip_configuration(listed.stdout)


def parse_pip_configuration(text: str) -> dict[str, str]:
    """Returns the options printed by `pip config list` (`section.option='value'`, a Python string)."""
    options: dict[str, dict[str, str]] = {section: {} for section in _SECTIONS}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if separator and section in options:
            options[section][option] = str(ast.literal_eval(value))
    merged: dict[str, str] = {}
    for section in _SECTIONS:
        merged |= options[section]
    return merged


def uv_variables(options: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Returns uv's variables for pip's `options`, except those that `environment` has."""
    variables: dict[str, str] = {}
    for option, (variable, separator) in _VARIABLES.items():
        if option not in options or variable in environment:
            continue
        values = options[option].split()
        variables[variable] = separator.join(values) if separator else options[option]
    # pip takes the best version of all indexes; uv by default only looks at the first that knows the name.
    if "UV_INDEX_STRATEGY" not in environment:
        variables["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return variables


def uv_flags() -> list[str]:
    """Returns flags for uv's look-ups of packages: pip's `no-index`, for which uv has no variable."""
    on = pip_configuration().get("no-index", "").lower() in ("1", "true", "yes", "on")
    return ["--no-index"] if on else []


def uv_environment(cache: Path | None = None) -> dict[str, str]:
    """Returns the environment for running uv.

    Args:
        cache: uv's cache, unless the user names one. Beside the environments it takes no space twice (hard
            links), and none in the home folder, which is small on clusters.
    """
    environment = dict(os.environ)
    for name in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX"):
        environment.pop(name, None)
    environment |= uv_variables(pip_configuration(), os.environ)
    if cache is not None:
        environment.setdefault("UV_CACHE_DIR", str(cache))
    return environment


def uv_program() -> str:
    """Returns the uv that is installed beside slurmeval.

    Raises:
        UserError: There is none.
    """
    try:
        import uv

        return str(uv.find_uv_bin())
    except (ImportError, FileNotFoundError) as error:
        raise UserError("the package uv is missing: run scripts/setup") from error


if __name__ == "__main__":
    os.execve(uv_program(), ["uv", *sys.argv[1:], *uv_flags()], uv_environment())

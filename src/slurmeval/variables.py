"""Variables of the user's shell, and lines of a site, around the processes that slurmeval starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from pathlib import Path

OWN_PYTHON = {"PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}
"""For every Python that slurmeval starts: text is UTF-8 in any locale, packages are those of its own
environment."""

OWN_PYTHON_LINE = f'unset "${{!PYTHON@}}"; export {" ".join(f"{n}={v}" for n, v in OWN_PYTHON.items())}'
"""The same as a line of bash, for after a job's `setup`: modules set PYTHONPATH."""


PROXIES = tuple(
    written for name in ("http_proxy", "https_proxy", "all_proxy") for written in (name, name.upper())
)
_EXCEPT = ("no_proxy", "NO_PROXY")
_LOOPBACK = ("127.0.0.1", "localhost")

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name files of certificates, which lie elsewhere on another machine, or nowhere."""


def proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the user's proxies, for a process that also talks to this machine: that goes without."""
    found = {name: environment[name] for name in PROXIES if environment.get(name)}
    said = [host for name in _EXCEPT for host in environment.get(name, "").split(",")]
    straight = ",".join(dict.fromkeys(host for host in (*map(str.strip, said), *_LOOPBACK) if host))
    return found | dict.fromkeys(_EXCEPT, "*" if "*" in straight.split(",") else straight)


def certificates(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the user's variables of certificates whose files exist.

    Programs end at once if the file that they are named is missing, even if they speak http alone.
    """
    return {name: path for name in CERTIFICATES if (path := environment.get(name)) and Path(path).exists()}


def forget_missing_certificates(environment: MutableMapping[str, str]) -> None:
    """Removes variables that name a file of certificates that is not on this machine."""
    for name in CERTIFICATES:
        if name in environment and name not in certificates(environment):
            del environment[name]


_NAME_IT = """slurmeval_at=${#BASH_SOURCE[@]}
trap 'slurmeval_status=$?; if [ ${#BASH_SOURCE[@]} = $slurmeval_at ]; then
echo "slurmeval: a line of setup in site.yaml failed: $BASH_COMMAND" >&2; exit $slurmeval_status; fi' ERR"""


def checked(setup: Sequence[str]) -> list[str]:
    """Returns shell lines of a site with a trap: a line that fails ends the job and is named.

    Without its module, or in a shell that knows no modules, a job would continue with something else.
    Failures in a file that a line sources, or in a function, are left alone: files of modules are full of
    them.
    """
    return [_NAME_IT, *setup, "trap - ERR"] if setup else []


def isolate_python(environment: MutableMapping[str, str]) -> None:
    """Removes what is meant for another Python (PYTHONPATH, PYTHONHOME, PYTHONOPTIMIZE …)."""
    for name in [name for name in environment if name.startswith("PYTHON")]:
        del environment[name]
    environment.update(OWN_PYTHON)


def shadowing(environment: Mapping[str, str] = os.environ) -> str | None:
    """Returns the folders of PYTHONPATH that come before this environment's own packages, or None.

    (`scripts/setup` has its .venv look at its own packages first.)
    """
    named = {str(Path(p).absolute()) for p in environment.get("PYTHONPATH", "").split(os.pathsep) if p}
    first = next((n for n, path in enumerate(sys.path) if path.endswith("-packages")), len(sys.path))
    before = [path for path in sys.path[:first] if path in named and not _is_own(path)]
    return os.pathsep.join(before) or None


def _is_own(path: str) -> bool:
    return Path(__file__).is_relative_to(path)

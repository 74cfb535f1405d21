"""Running the machine's commands, with errors that say which one failed and why."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.waiting import wait_for

T = TypeVar("T")
# Where Debian keeps programs; a user's PATH may lack half of it
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ClusterError(Exception):
    """The test cluster cannot be made, or does not do what was asked of it."""


def run(argv: Sequence[str | Path], *, timeout_s: float = 60.0, stdin: str | None = None) -> str:
    """Standard output of a command that must succeed."""
    command = [str(word) for word in argv]
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}"}
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment,
            check=False,
        )
    except FileNotFoundError as error:
        raise ClusterError(f"{command[0]}: no such program") from error
    except subprocess.TimeoutExpired as error:
        raise ClusterError(f"{' '.join(command)}: still running after {timeout_s:g} s") from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise ClusterError(f"{' '.join(command)}: exit code {done.returncode}: {said}")
    return done.stdout


def succeeds(argv: Sequence[str | Path], *, timeout_s: float = 60.0) -> bool:
    """Whether a command ends well; its output is of no interest."""
    try:
        run(argv, timeout_s=timeout_s)
    except ClusterError:
        return False
    return True


def start_daemon(argv: Sequence[str | Path], log: Path) -> None:
    """Starts a command that outlives this process, in a session of its own, with an environment that has
    nothing of this process; its output is added to `log`."""
    # A child of init rather than ours: nobody here need wait for it
    with log.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *map(str, argv)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={"PATH": SYSTEM_PATH},
            check=True,
        )


def wait_until(condition: Callable[[], T | None], what: str, deadline_s: float) -> T:
    """The condition's first true value; an error that names `what` after `deadline_s` seconds."""
    try:
        return wait_for(condition, what, deadline_s)  # type: ignore[no-any-return]
    except AssertionError as error:
        raise ClusterError(str(error)) from None


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Waits until no other process of the machine makes or removes a cluster: they would choose the same
    addresses, or clean up after each other."""
    # A folder that is always there: nothing to remove afterwards
    lock = os.open("/run", os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)

"""Ending a process when its parent ends, even by SIGKILL.

The kernel sends the signal (prctl(2), PR_SET_PDEATHSIG), and keeps doing so after exec. Nothing but the
standard library is imported, so that scripts without site-packages can use it.

`python -I -S parent_death.py PARENT PROGRAM ARGUMENT…` becomes PROGRAM (a full path), which is killed when
the process PARENT ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def signal_at_parent_death(number: signal.Signals = signal.SIGKILL) -> None:
    """Has the kernel send this process a signal when the thread that started it ends.

    Raises:
        OSError: The kernel refuses.
    """
    if _libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl PR_SET_PDEATHSIG: {os.strerror(error)}")


if __name__ == "__main__":
    signal_at_parent_death()
    if os.getppid() != int(sys.argv[1]):
        sys.exit("the caller has ended")
    os.execv(sys.argv[2], sys.argv[2:])

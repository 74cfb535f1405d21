"""What the machine must have for a cluster."""

from __future__ import annotations

import os
import shutil
import sys

from tests.slurm.cluster import packages
from tests.slurm.cluster.commands import ClusterError, run


def check() -> None:
    """An error that says what is lacking. Installs nothing."""
    if sys.platform != "linux":
        raise ClusterError("the test cluster needs Linux")
    if os.geteuid() != 0:
        raise ClusterError("the test cluster needs root: it makes network namespaces and mounts")
    packages.missing()
    for program in ("nsenter", "setpriv", "setsid", "unshare"):
        if shutil.which(program) is None:
            raise ClusterError(f"the test cluster needs {program} (util-linux)")
    try:
        run(["unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "true"])
    except ClusterError as error:
        raise ClusterError(
            f"the test cluster needs the right to make namespaces (CAP_SYS_ADMIN): {error}"
        ) from error

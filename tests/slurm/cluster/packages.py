"""The Debian packages that tests need: installed when they are missing, removed by CI before it begins."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.slurm.cluster.commands import ClusterError, run, wait_until

CLUSTER = (
    "iproute2",
    "mariadb-client-core",
    "mariadb-server-core",
    "munge",
    "slurm-client",
    "slurm-wlm-basic-plugins",
    "slurm-wlm-mysql-plugin",
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "util-linux",
)
APPTAINER = ("patchelf", "squashfs-tools", "squashfuse", "uidmap")
IMAGES = ("mmdebstrap", "pigz")
REGISTRY = ("docker-registry", "openssl")
BROWSER = ("chromium", "chromium-driver")
CARRYING = ("rsync",)
LATEX = ("texlive-latex-base", "texlive-latex-recommended")
PARTS = (CLUSTER, APPTAINER, IMAGES, REGISTRY, BROWSER, CARRYING, LATEX)
OF_THE_MACHINE = ("iproute2", "openssl", "util-linux")
"""Other programs need these too: never removed."""
LOCK = Path("/run/lock/slurmeval-test-packages")
LISTS = Path("/var/lib/apt/lists")
BUSY_S = 180.0
"""How long another program may hold apt's lists. `DPkg::Lock::Timeout` does not cover them."""
POLICY = Path("/usr/sbin/policy-rc.d")
OUR_POLICY = (
    "#!/bin/sh\n# slurmeval's test cluster: packages are being installed, no service starts\nexit 101\n"
)


def missing(packages: Sequence[str] = CLUSTER) -> list[str]:
    """Packages that are not installed. An error where there is no dpkg."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        raise ClusterError("the test cluster's packages come from Debian, and here is no apt-get")
    # It fails when a package is unknown, and still lists the others
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


@contextmanager
def no_service_starts(policy: Path | None = None) -> Iterator[None]:
    """Keeps packages that are being installed from starting their services. A policy that the machine has
    of its own stays as it is; one that a killed installation of ours left behind is removed in the end."""
    policy = policy or POLICY
    ours = not policy.exists() or policy.read_text() == OUR_POLICY
    if ours:
        policy.write_text(OUR_POLICY)
        policy.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            policy.unlink(missing_ok=True)


def install(packages: Sequence[str] = CLUSTER) -> None:
    """Installs those that are missing, without starting a service. Another process that installs for tests
    is waited for, and what it has installed is not installed again."""
    if not missing(packages):
        return
    with LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lacking = missing(packages)
        if not lacking:
            return
        with no_service_starts():
            _update()
            run([*_APT, "install", "--yes", "--no-install-recommends", *lacking], timeout_s=600)


def remove() -> None:
    """Removes all that `install` may have installed here, and what only that needed, and the lists of
    packages: the machine is then as if no test had ever run on it."""
    wanted = {package for part in PARTS for package in part} - set(OF_THE_MACHINE)
    there = sorted(wanted - set(missing(sorted(wanted))))
    if there:
        with no_service_starts():
            run([*_APT, "purge", "--yes", "--auto-remove", *there], timeout_s=600)
    shutil.rmtree(LISTS, ignore_errors=True)
    LISTS.mkdir(parents=True, exist_ok=True)


_APT = (
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "--quiet=2",
    "--option=DPkg::Lock::Timeout=120",
)


def _update() -> None:
    """Fetches the lists of packages; waits for another program that does."""
    wait_until(_is_updated, "apt's lists, which another program holds", BUSY_S)


def _is_updated() -> bool:
    try:
        run([*_APT, "update"], timeout_s=180)
    except ClusterError as error:
        if "Could not get lock" not in str(error):
            raise
        return False
    return True

"""A real Apptainer, on Debian 12: that of Debian unstable beside a libc of its own, since it needs a newer
one. Nothing of the machine's libraries is altered; the Debian packages that it calls are installed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.internet import parts
from tests.slurm.cluster import packages
from tests.slurm.cluster.commands import SYSTEM_PATH, run

RECIPE = 1
"""To be raised when this module makes another Apptainer."""
PROGRAMS = Path("programs")
"""Where it looks first for the programs that it calls."""
UNSTABLE = ["apptainer", "libc6", "libseccomp2", "libsqlite3-0"]
LIBRARIES = Path("lib/x86_64-linux-gnu")
WANTED = (
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libm.so.6",
    "libresolv.so.2",
    "libpthread.so.0",
    "libdl.so.2",
    "librt.so.1",
    "libnss_dns.so.2",
    "libnss_files.so.2",
    "libseccomp.so.2*",
    "libsqlite3.so.*",
)


def ensure() -> Path:
    """The program `apptainer`; made in about 10 s where it is not there. It runs on the test cluster's nodes
    too, and for every user who may enter the folder of parts."""
    parts.need_amd64()
    packages.install(packages.APPTAINER)
    program = parts.made("apptainer", f"{RECIPE:012d}", _make) / "bin" / "apptainer"
    run([program, "--version"])
    return program


def _make(folder: Path, goal: Path) -> None:
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    for package in parts.download_packages("sid", UNSTABLE, folder):
        parts.unpack(package, unpacked)
        package.unlink()
    _arrange(unpacked / "usr", unpacked / "etc", folder)
    _patch(folder, goal)
    _pack_fast(folder / PROGRAMS)
    _configure(folder / "etc" / "apptainer" / "apptainer.conf", goal)
    for used in (unpacked, folder / "apt"):
        shutil.rmtree(used)


def _arrange(usr: Path, etc: Path, folder: Path) -> None:
    libraries = folder / LIBRARIES
    for place in ("bin", "etc", "var/lib/apptainer/mnt/session"):
        (folder / place).mkdir(parents=True)
    libraries.mkdir(parents=True)
    shutil.move(usr / "bin" / "apptainer", folder / "bin")
    shutil.move(usr / "bin" / "run-singularity.apptainer", folder / "bin" / "run-singularity")
    (folder / "bin" / "singularity").symlink_to("apptainer")
    shutil.move(etc / "apptainer", folder / "etc")
    shutil.move(usr / LIBRARIES / "apptainer", libraries)
    for pattern in WANTED:
        for library in (usr / LIBRARIES).glob(pattern):
            shutil.move(library, libraries)
    # The two programs, once moved, disagree about where etc and var are: both are right so
    for name in ("etc", "var"):
        (folder / "lib" / name).symlink_to(f"../{name}")


def _patch(folder: Path, goal: Path) -> None:
    """Has the programs use the libraries beside them, once all lies at `goal`."""
    libraries = goal / LIBRARIES
    loader = ["--set-interpreter", libraries / "ld-linux-x86-64.so.2"]
    for program in ("bin/apptainer", f"{LIBRARIES}/apptainer/bin/starter"):
        run(["patchelf", *loader, "--force-rpath", "--set-rpath", libraries, folder / program])


def _pack_fast(folder: Path) -> None:
    """A mksquashfs that packs fast rather than small: a pull takes a quarter of the time for it."""
    folder.mkdir(parents=True)
    program = folder / "mksquashfs"
    program.write_text('#!/bin/sh\nexec /usr/bin/mksquashfs "$@" -Xcompression-level 1\n')
    program.chmod(0o755)


def _configure(file: Path, goal: Path) -> None:
    """root in a container has no capability: a virtual machine's root may lack some that Apptainer would
    otherwise insist on."""
    text = file.read_text()
    text = re.sub(r"(?m)^root default capabilities = .*", "root default capabilities = no", text)
    path = f"binary path = {goal / PROGRAMS}:$PATH:{SYSTEM_PATH}"
    file.write_text(re.sub(r"(?m)^# binary path = .*", path, text))

"""Real images of NeMo Evaluator's harnesses, made from packages: Debian's, and those of the harness's lock.

Their layers are made once and kept (tests/internet/parts.py): that takes minutes."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from slurmeval.environments.indexes import uv_environment, uv_flags, uv_program
from slurmeval.environments.locks import read_lock
from tests.internet import parts
from tests.internet.images import SYSTEM_PATH, Image, Index, Layer, pack, pack_stream
from tests.slurm.cluster import packages
from tests.slurm.cluster.commands import run

RECIPE = 1
"""To be raised when this module makes other layers."""
SUITE = "bookworm"
TAG = "26.03"
HARNESSES = {"bfcl": "nemo-bfcl", "lm-evaluation-harness": "nemo-lm-evaluation-harness"}
"""Lock of each harness that an image is made of."""
OF_TWO = ("bfcl",)
"""Harnesses whose image is there for another architecture too, where it holds no harness."""
HOME = Path("opt/harness")
BASE = ("ca-certificates", "libgomp1", "libstdc++6", "python3")
"""Debian's packages in every harness's image, beside the essential ones."""
UNREAD = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/i18n")
TINY = [
    "busybox-static",
    "libc6",
    "libexpat1",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "python3.11-minimal",
    "zlib1g",
]
UNUSED = ("pandas/tests", "pyarrow/include", "pyarrow/tests", "scipy/**/tests", "sklearn/**/tests")
"""A sixth of the largest image, and much of what compiling it takes."""
STAND_IN = parts.ROOT / "tests" / "stand_ins" / "stand_in_nemo_evaluator.py"


def repository(harness: str) -> str:
    """The image's name, without the registry's."""
    return f"nvidia/eval-factory/{harness}"


def harness_images(harnesses: Sequence[str] = tuple(HARNESSES)) -> dict[str, Image | Index]:
    """Images by harness."""
    parts.need_amd64()
    packages.install(packages.IMAGES)
    variables = {"PATH": f"/{HOME}/bin:{SYSTEM_PATH}"}
    images: dict[str, Image | Index] = {}
    with ThreadPoolExecutor(2) as pool:
        base = pool.submit(_base)
        layers = {harness: pool.submit(_harness, HARNESSES[harness]) for harness in harnesses}
        for harness, layer in layers.items():
            image = Image((base.result(), layer.result()), variables=variables)
            other = Image((base.result(),), "arm64")
            images[harness] = Index((other, image)) if harness in OF_TWO else image
    return images


def tiny(label: str = "", architecture: str = "amd64") -> Image:
    """A small image, quick to pull: busybox, a Python, and a `nemo-evaluator` that only lists. Each label
    makes another digest. That of another architecture says so, and holds the same files."""
    parts.need_amd64()
    packages.install(packages.IMAGES)
    key = _key(STAND_IN.read_bytes(), *(name.encode() for name in TINY))
    layer = Layer.read(parts.made("layer-tiny", key, lambda folder, _: _make_tiny(folder)))
    return Image((layer,), architecture, labels={"label": label})


def _key(*content: bytes) -> str:
    return hashlib.sha256(b"\0".join([str(RECIPE).encode(), SUITE.encode(), *content])).hexdigest()


def _base() -> Layer:
    key = _key(*(name.encode() for name in BASE))
    return Layer.read(parts.made("layer-base", key, lambda folder, _: _make_base(folder)))


def _harness(lock: str) -> Layer:
    file = parts.ROOT / "containers" / "locks" / f"{lock}.lock"
    made = parts.made(f"layer-{lock}", _key(file.read_bytes()), lambda folder, _: _make_harness(file, folder))
    return Layer.read(made)


def _make_base(folder: Path) -> None:
    """Debian with Python, without what nobody reads in a container."""
    argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=essential", f"--include={','.join(BASE)}"]
    argv += [f"--dpkgopt=path-exclude=/{path}/*" for path in UNREAD]
    argv += ["--skip=output/dev", "--format=tar", SUITE, "-", parts.mirror()]
    pack_stream(argv, folder)


def _make_harness(lock: Path, folder: Path) -> None:
    """The lock's packages as a virtual environment, whose Python will be the image's."""
    root = folder / "root"
    home, python = root / HOME, root / HOME / "bin" / "python"
    flags = ["--no-deps"] if read_lock(lock).no_deps else []
    environment = [f"{name}={value}" for name, value in uv_environment().items()]
    uv: list[str | Path] = ["env", "--ignore-environment", *environment, uv_program(), "--quiet"]
    ours = sys.executable if sys.version_info[:2] == (3, 11) else "3.11"
    run([*uv, "venv", "--relocatable", "--no-project", "--python", ours, home])
    run([*uv, "pip", "install", "--python", python, "-r", lock, *uv_flags(), *flags], timeout_s=600)
    for tests in UNUSED:
        for unused in list(home.glob(f"lib/python3.11/site-packages/{tests}")):
            shutil.rmtree(unused, ignore_errors=True)
    # In Python's own words, so that tracebacks name the files as they lie in the image
    quiet = [python, "-m", "compileall", "-qq", "-j", str(os.cpu_count() or 1)]
    run(["bash", "-c", '"$@" || true', "compile", *quiet, "-s", root, "-p", "/", home / "lib"], timeout_s=600)
    for name, target in (("python", "/usr/bin/python3"), ("python3", "python"), ("python3.11", "python")):
        (home / "bin" / name).unlink(missing_ok=True)
        (home / "bin" / name).symlink_to(target)
    settings = home / "pyvenv.cfg"
    lines = [line for line in settings.read_text().splitlines() if not line.startswith("home")]
    settings.write_text("\n".join(["home = /usr/bin", *lines]) + "\n")
    pack(root, folder)
    shutil.rmtree(root)


def _make_tiny(folder: Path) -> None:
    root = folder / "root"
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "var/tmp", "usr/local/bin"):
        (root / name).mkdir(parents=True)
    for package in parts.download_packages(SUITE, TINY, folder):
        parts.unpack(package, root)
        package.unlink()
    for path in UNREAD:
        shutil.rmtree(root / path, ignore_errors=True)
    shutil.rmtree(folder / "apt")
    binaries = root / "usr" / "bin"
    for applet in run([binaries / "busybox", "--list"]).split():
        if not (binaries / applet).exists():
            (binaries / applet).symlink_to("busybox")
    (binaries / "python3").symlink_to("python3.11")
    (root / "etc" / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    program = root / "usr" / "local" / "bin" / "nemo-evaluator"
    shutil.copyfile(STAND_IN, program)
    program.chmod(0o755)
    _write_metadata(root / "usr" / "lib" / "python3" / "dist-packages")
    pack(root, folder)
    shutil.rmtree(root)


def _write_metadata(packages_folder: Path) -> None:
    """What Python lists as installed."""
    about = packages_folder / "nemo_evaluator-0.0.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: nemo-evaluator\nVersion: 0.0.0\n")

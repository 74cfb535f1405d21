"""How fast a model is copied to a node's disk, against `cp -aL`.

    python timings/scratch.py --source FOLDER --scratch FOLDER [--files 8] [--megabytes 4000] [--cold]

Makes a snapshot of so many files of so many MB in all below the one folder, as the hub's client lays it out,
and copies it to the other by `cp -aL` and by slurmeval in turn, each as often as `--rounds` says. Prints MB/s
of the best of each, without and with the time that the copied bytes take to reach the disk (sync), and their
ratios. `--cold`: the page cache is dropped before each copying (root only)."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from slurmeval.servers.scratch import local_copy

BLOCK = 16 << 20


def make_snapshot(folder: Path, files: int, size: int) -> Path:
    """A snapshot of links to blobs."""
    snapshot = folder / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    block = os.urandom(BLOCK)
    for number in range(files):
        with (folder / "blobs" / str(number)).open("wb") as stream:
            for start in range(0, size // files, BLOCK):
                stream.write(block[: size // files - start])
        (snapshot / f"model-{number}.safetensors").symlink_to(f"../../blobs/{number}")
    return snapshot


def measure(copy: Callable[[], object], cold: bool) -> tuple[float, float]:
    """Seconds until it returns, and until all is on the disk."""
    os.sync()
    if cold:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    started = time.perf_counter()
    copy()
    returned = time.perf_counter() - started
    os.sync()
    return returned, time.perf_counter() - started


def by_slurmeval(snapshot: Path, scratch: Path) -> None:
    said: list[str] = []
    copy = local_copy(snapshot, str(scratch), "benchmark", 0, said.append)
    assert copy is not None, said
    # Left for the caller to remove, as what cp made: removing is not measured
    shutil.move(copy.path, scratch / "copied")
    copy.release()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true")
    arguments = parser.parse_args()
    size = arguments.megabytes * 1_000_000
    ways: dict[str, Callable[[Path, Path], object]] = {
        "cp -aL": lambda source, scratch: subprocess.run(
            ["cp", "-aL", source, scratch / "copied"], check=True
        ),
        "slurmeval": by_slurmeval,
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with (
        tempfile.TemporaryDirectory(dir=arguments.source) as source,
        tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch,
    ):
        snapshot = make_snapshot(Path(source), arguments.files, size)
        for _ in range(arguments.rounds):
            for name, way in ways.items():
                found[name].append(
                    measure(lambda way=way: way(snapshot, Path(scratch)), arguments.cold)  # type: ignore[misc]
                )
                shutil.rmtree(Path(scratch) / "copied")
    for place, what in enumerate(("until it returns", "until it is on the disk")):
        best = {name: size / 1e6 / min(times[place] for times in taken) for name, taken in found.items()}
        rates = ", ".join(f"{name} {rate:.0f} MB/s" for name, rate in best.items())
        print(f"{what}: {rates}: {best['slurmeval'] / best['cp -aL']:.2f} times as fast")


if __name__ == "__main__":
    main()

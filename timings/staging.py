"""How fast staged files are hashed, and that what several share is downloaded once.

    python timings/staging.py [--gb 2] [--files 8]

Writes so many GB of random files to the temporary folder (`TMPDIR`), reads them once so that the disk plays
no part, and prints GB/s of CPU time and of wall time: `sha256sum`, one core and all; staging's, the same; a
second look at unchanged files; and one download, from a hub on this machine, that four models share."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.stand_ins.stand_in_hub import StandInHub

from slurmeval.config.sources import Weights
from slurmeval.staging import manifest
from slurmeval.staging.manifest import HashCache, hash_files
from slurmeval.staging.models import stage_model

CHUNK = os.urandom(1 << 24)


def cpu_s() -> float:
    """Of this process and of those that it waited for."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(what: str, size: int, action: Callable[[], object]) -> None:
    before, started = cpu_s(), time.monotonic()
    action()
    wall, cpu = time.monotonic() - started, cpu_s() - before
    print(
        f"{what:42} {size / wall / 1e9:7.2f} GB/s wall {size / cpu / 1e9:7.2f} GB/s of CPU time, {wall:.3f} s"
    )


def write(folder: Path, number: int, size: int) -> list[str]:
    names = [f"{index}.safetensors" for index in range(number)]
    for index, name in enumerate(names):
        with (folder / name).open("wb") as stream:
            stream.write(index.to_bytes(8, "big"))
            while stream.tell() < size:
                stream.write(CHUNK[: size - stream.tell()])
    return names


def hashes(folder: Path, names: list[str]) -> None:
    size = sum((folder / name).stat().st_size for name in names)
    files = [str(folder / name) for name in names]
    cores = len(os.sched_getaffinity(0))
    subprocess.run(["cat", *files], stdout=subprocess.DEVNULL, check=True)

    def sha256sum(at_once: int) -> None:
        running = [
            subprocess.Popen(["sha256sum", *files[n::at_once]], stdout=subprocess.DEVNULL)
            for n in range(at_once)
        ]
        assert all(process.wait() == 0 for process in running)

    measured("sha256sum, one core", size, lambda: sha256sum(1))
    measured(f"sha256sum, {cores} cores", size, lambda: sha256sum(cores))
    all_threads, manifest.HASH_THREADS = manifest.HASH_THREADS, 1
    measured("staging, one core", size, lambda: hash_files(folder, names, HashCache(folder / "one.json")))
    manifest.HASH_THREADS = all_threads
    all_cores = folder / "all.json"
    measured(f"staging, {cores} cores", size, lambda: hash_files(folder, names, HashCache(all_cores)))
    measured("staging, unchanged files", size, lambda: hash_files(folder, names, HashCache(all_cores)))


def shared_download(folder: Path, names: list[str], models: int = 4) -> None:
    size = sum((folder / name).stat().st_size for name in names)
    files: dict[str, bytes | Path] = {name: folder / name for name in names}
    with StandInHub() as hub, tempfile.TemporaryDirectory() as place:
        os.environ["HF_ENDPOINT"] = hub.url
        commit = hub.add("model", "acme/tiny", {**files, "config.json": b"{}"})

        def stage(number: int) -> None:
            goal, weights = Path(place) / f"{number}.json", Weights(repo="acme/tiny", revision=commit)
            stage_model(str(number), weights, goal, Path(place) / "hf", Path(place), None, lambda _: None)

        measured("staging from a hub on this machine", size, lambda: stage(1))
        for number in range(2, models + 1):
            measured(f"… model {number} with these weights", size, lambda number=number: stage(number))
        print(f"downloads of {len(names)} files for {models} models: {hub.downloads('safetensors')}")
        url = f"{hub.files_url}/content/model/acme/tiny/{commit}/{names[0]}"
        curl = ["curl", "-s", "-o", f"{place}/curl", url]
        one = (folder / names[0]).stat().st_size
        measured("curl of one of these files", one, lambda: subprocess.run(curl, check=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--gb", type=float, default=2.0)
    parser.add_argument("--files", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        names = write(folder, options.files, int(options.gb * 1e9 / options.files))
        hashes(folder, names)
        shared_download(folder, names)


if __name__ == "__main__":
    main()

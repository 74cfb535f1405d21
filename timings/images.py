"""How fast images are pulled, and hashed.

    python timings/images.py [--images 8] [--mb 60] [--folder DIR]

Needs Apptainer on PATH and Debian's docker-registry. Pushes images of random bytes to a registry of its own
on this machine and pulls them twice: with one loop of `apptainer pull` for each core (`xargs -P`), and with
`slurmeval images pull --jobs <cores>`. Then hashes their SIFs with `sha256sum` and with
`slurmeval images verify --all`. Prints seconds and MB/s of each."""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

DOCKER = "application/vnd.docker"
LAYERS = 3


def layer(files: dict[str, bytes]) -> tuple[bytes, bytes]:
    """A layer's tar, and what is pushed of it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
    return stream.getvalue(), gzip.compress(stream.getvalue(), 1)


class Pusher:
    """Pushes to one repository."""

    def __init__(self, host: str, name: str) -> None:
        self.address, self.session = f"http://{host}/v2/{name}", requests.Session()

    def blob(self, data: bytes, kind: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        place = self.session.post(f"{self.address}/blobs/uploads/").headers["Location"]
        self.session.put(place, params={"digest": digest}, data=data).raise_for_status()
        return {"mediaType": kind, "digest": digest, "size": len(data)}

    def image(self, mb: int) -> str:
        """An image of random bytes in a few layers; its digest."""
        layers = [layer({f"data{n}": os.urandom(mb * 1_000_000 // LAYERS)}) for n in range(LAYERS)]
        diffs = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar, _ in layers]
        config = {"architecture": "amd64", "os": "linux", "config": {}}
        config["rootfs"] = {"type": "layers", "diff_ids": diffs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
            "config": self.blob(json.dumps(config).encode(), f"{DOCKER}.container.image.v1+json"),
            "layers": [self.blob(data, f"{DOCKER}.image.rootfs.diff.tar.gzip") for _, data in layers],
        }
        headers = {"Content-Type": str(manifest["mediaType"])}
        answer = self.session.put(f"{self.address}/manifests/1", data=json.dumps(manifest), headers=headers)
        answer.raise_for_status()
        return answer.headers["Docker-Content-Digest"]


@contextmanager
def registry(folder: Path) -> Iterator[str]:
    """Debian's docker-registry; gives host and port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"localhost:{free.getsockname()[1]}"
    settings = folder / "registry.json"
    content = {"version": "0.1", "log": {"level": "error", "accesslog": {"disabled": True}}}
    content |= {
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": host},
    }
    settings.write_text(json.dumps(content))
    server = subprocess.Popen(["docker-registry", "serve", settings], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                requests.get(f"http://{host}/v2/", timeout=5)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield host
    finally:
        server.terminate()
        server.wait()


def timed(what: str, argv: list[str], folder: Path, megabytes: float, **variables: str) -> float:
    environment = {**os.environ, "APPTAINER_NOHTTPS": "true", "NO_PROXY": "localhost", **variables}
    started = time.perf_counter()
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{what} failed: {done.stdout[-1000:]}{done.stderr[-2000:]}")
    print(f"{what}: {seconds:.1f} s, {megabytes / seconds:.0f} MB/s", flush=True)
    return seconds


def measure(host: str, folder: Path, images: int, mb: int) -> None:
    cores = len(os.sched_getaffinity(0))
    digests = {f"acme/image{n}": Pusher(host, f"acme/image{n}").image(mb) for n in range(images)}
    (folder / "containers").mkdir()
    entry = "{{reference: '{0}/{1}:1', digest: '{2}', architectures: [amd64]}}"
    lines = [f"{name[5:]}: {entry.format(host, name, digest)}\n" for name, digest in digests.items()]
    (folder / "containers" / "images.lock.yaml").write_text("".join(lines))
    plain = folder / "plain"
    plain.mkdir()
    sources = "\n".join(f"docker://{host}/{name}@{digest}" for name, digest in digests.items())
    (folder / "sources").write_text(sources)
    script = f"xargs -P {cores} -I X sh -c 'apptainer pull $(echo X | tail -c 13).sif X' < ../sources"
    total = images * mb
    cache = str(folder / "plain-cache")
    alone = timed(
        f"apptainer pull, {cores} at once", ["sh", "-c", script], plain, total,
        APPTAINER_CACHEDIR=cache, APPTAINER_TMPDIR=str(plain),
    )  # fmt: skip
    program = [sys.executable, "-m", "slurmeval", "images"]
    ours = timed("slurmeval images pull", [*program, "pull", "--all", "--jobs", str(cores)], folder, total)
    print(f"slurmeval pulls at {alone / ours:.0%} of the plain loop's rate, tried and hashed included")
    alone = timed("sha256sum, one core", ["sh", "-c", "sha256sum .images/*.sif"], folder, total)
    ours = timed("slurmeval images verify --all", [*program, "verify", "--all"], folder, total)
    print(f"slurmeval hashes at {alone / ours / cores:.0%} of sha256sum's rate per core")
    timed("slurmeval images verify, nothing touched", [*program, "verify"], folder, total)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--mb", type=int, default=60)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    arguments = parser.parse_args()
    for program in ("apptainer", "docker-registry"):
        if shutil.which(program) is None:
            sys.exit(f"{program} is not on PATH")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name, registry(Path(name)) as host:
        measure(host, Path(name), arguments.images, arguments.mb)


if __name__ == "__main__":
    main()

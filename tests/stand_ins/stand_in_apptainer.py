"""A stand-in for Apptainer: builds what looks like SIFs from a stand-in registry, and runs what is in them.

`write_program(folder)` makes the program; its folder goes to the front of PATH. It does `--version`,
`build --force DEST docker://…@sha256:…`, `inspect SIF` and `exec … SIF COMMAND`, with the layout of the
cache and the exit statuses of the real one. It contains nothing: commands run on the machine itself, with the
image's `bin` first on PATH. Each call is a line of JSON in `<folder>/calls.jsonl`: arguments, and some of its
variables.

Variables: STAND_IN_SIF_MACHINE is the code of the architecture (02 by default)."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

HEADER = struct.Struct("<32s10s3s3s16s8q")
VERSION = "1.4.5"
WITH_VALUE = ("--home", "--workdir", "--network", "--mount", "--bind", "--pwd")


def write_program(folder: Path) -> Path:
    """Makes `<folder>/apptainer`."""
    program = folder / "apptainer"
    folder.mkdir(parents=True, exist_ok=True)
    program.write_text(
        f"#!/bin/sh\nSTAND_IN_FOLDER='{folder}' exec '{sys.executable}' -I '{Path(__file__)}' \"$@\"\n"
    )
    program.chmod(0o755)
    return program


def calls(folder: Path) -> list[dict[str, Any]]:
    """What `<folder>/apptainer` was called with, so far."""
    file = folder / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sif_bytes(files: dict[str, str], machine: str = "02") -> bytes:
    """A SIF with these files."""
    data = json.dumps(files).encode()
    numbers = (0, 0, 0, 0, 0, 0, HEADER.size, len(data))
    return HEADER.pack(b"#!/x", b"SIF_MAGIC\0", b"01\0", machine.encode(), b"", *numbers) + data


def main(arguments: list[str]) -> int:
    _note(arguments)
    if arguments == ["--version"]:
        print(f"apptainer version {VERSION}")
        return 0
    if arguments[0] == "build":
        return build(Path(arguments[2]), arguments[3])
    if arguments[0] == "inspect":
        _files(Path(arguments[-1]))
        if "--json" in arguments:
            labels = {"org.opencontainers.image.version": "26.10"}
            print(json.dumps({"data": {"attributes": {"labels": labels}}, "type": "container"}))
        return 0
    return execute(arguments[arguments.index("exec") + 1 :])


def build(sif: Path, source: str) -> int:
    """Fetches the layers that are not in the cache, and makes the SIF."""
    name, _, digest = source.removeprefix("docker://").partition("@")
    host, _, path = name.partition("/")
    blobs = Path(os.environ["APPTAINER_CACHEDIR"]) / "cache" / "blob" / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)
    manifest = json.loads(_get(f"{host}/v2/{path}/manifests/{digest}"))
    if "manifests" in manifest:
        entry = next(e for e in manifest["manifests"] if e["platform"]["architecture"] == "amd64")
        manifest = json.loads(_get(f"{host}/v2/{path}/manifests/{entry['digest']}"))
    print("INFO:    Fetching OCI image...", file=sys.stderr, flush=True)
    files: dict[str, str] = {}
    for layer in manifest["layers"]:
        hexadecimal = layer["digest"].removeprefix("sha256:")
        blob = blobs / hexadecimal
        if not blob.exists():
            partial = blobs / f"{hexadecimal}{os.getpid()}"
            data = _get(f"{host}/v2/{path}/blobs/{layer['digest']}", partial)
            if hashlib.sha256(data).hexdigest() != hexadecimal:
                return _fatal("while building SIF from layers: unexpected EOF")
            partial.rename(blob)
        files |= json.loads(blob.read_bytes())
    print("INFO:    Creating SIF file...", file=sys.stderr, flush=True)
    (Path(os.environ["APPTAINER_TMPDIR"]) / "rootfs").mkdir()
    try:
        sif.write_bytes(sif_bytes(files, os.environ.get("STAND_IN_SIF_MACHINE", "02")))
    except OSError as error:
        return _fatal(f"while creating SIF: write {sif}: {os.strerror(error.errno or 0).lower()}")
    return 0


def execute(arguments: list[str]) -> int:
    """Runs a command with the image's programs first on PATH."""
    home = "/"
    while arguments[0].startswith("--"):
        flag = arguments.pop(0)
        value = arguments.pop(0) if flag in WITH_VALUE else ""
        home = value.partition(":")[0] if flag == "--home" else home
    files = _files(Path(arguments[0]))
    root = Path(tempfile.mkdtemp(dir=os.environ["STAND_IN_FOLDER"]))
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)
    os.chdir(home)
    environment = {"PATH": f"{root / 'bin'}:/usr/bin:/bin", "HOME": home}
    try:
        os.execvpe(arguments[1], arguments[1:], environment)
    except FileNotFoundError:
        return _fatal(f'exec {arguments[1]} failed: executable file "{arguments[1]}" not found in $PATH')


def _files(sif: Path) -> dict[str, str]:
    data = sif.read_bytes()
    try:
        files: dict[str, str] = json.loads(data[HEADER.size :])
    except ValueError:
        sys.exit(_fatal(f"while opening image {sif}: bad SIF"))
    return files


def _get(place: str, into: Path | None = None) -> bytes:
    request = urllib.request.Request(f"http://{place}")
    name, password = (os.environ.get(f"APPTAINER_DOCKER_{x}", "") for x in ("USERNAME", "PASSWORD"))
    if name:
        request.add_header(
            "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        )
    try:
        with urllib.request.urlopen(request) as response:
            data = b""
            while piece := response.read1(65536):
                data += piece
                if into is not None:
                    into.write_bytes(data)
            return data
    except urllib.error.HTTPError as error:
        sys.exit(_fatal(f"GET http://{place}: unexpected status code {error.code}"))
    except urllib.error.URLError:
        sys.exit(_fatal(f"Get http://{place}: dial tcp: connection refused"))
    except OSError as error:
        sys.exit(_fatal(f"write: {os.strerror(error.errno or 0).lower()}"))


def _fatal(text: str) -> int:
    print(f"FATAL:   {text}", file=sys.stderr)
    return 255


def _note(arguments: list[str]) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("APPTAINER", "SINGULARITY", "TMPDIR", "HOME"))
    }
    with (Path(os.environ["STAND_IN_FOLDER"]) / "calls.jsonl").open("a") as stream:
        stream.write(json.dumps({"arguments": arguments, "environment": environment}) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

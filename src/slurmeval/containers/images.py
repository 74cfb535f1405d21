"""Images: pulled once by digest into a shared folder, tried, and only then recorded.

`containers/images.yaml` has for each id a name in a registry, and a command that must start.
`containers/images.lock.yaml` has the digests. `<folder>/<id>-<12 digits>.sif` is the image and `<same>.json`,
written last, its record: a SIF without a record that fits is no image.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from slurmeval.build_once import owned
from slurmeval.config.yaml_files import read_yaml
from slurmeval.containers.apptainer import Apptainer
from slurmeval.containers.check import Checker, Found, sif_architecture, this_architecture
from slurmeval.containers.layers import REMEDY
from slurmeval.containers.pulling import log_of, pull, remove_remains, work_folder
from slurmeval.containers.reference import DIGEST, Reference
from slurmeval.disk import disk_errors, remove_tree
from slurmeval.errors import ConfigError, SlurmevalError, UserError
from slurmeval.files import sha256_of_file
from slurmeval.progress import Progress, size_text, to_stderr
from slurmeval.state.records import read, write
from slurmeval.state.runtime_records import ImageRecord

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_KEYS = {"reference": str, "check": list, "digest": str, "architectures": list, "resolved": str}
_UNLOCKED = "unlocked"


@dataclass(frozen=True)
class Image:
    """Entry of `containers/images.lock.yaml`, or of `images.yaml`: then without digest."""

    id: str
    reference: str
    """Its name in a registry, such as nvcr.io/nvidia/eval-factory/bfcl:26.03."""
    digest: str = ""
    """sha256:… of what the name stands for: an image, or an index of images for several architectures."""
    architectures: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    """The command that must start in it."""
    resolved: str = ""
    """The day on which the registry was asked for the digest; empty: it was taken from elsewhere."""

    @property
    def key(self) -> str:
        """First 12 digits of the digest."""
        return self.digest.removeprefix("sha256:")[:12] or _UNLOCKED

    def sif(self, folder: Path) -> Path:
        """Returns the path of the SIF."""
        return folder.absolute() / f"{self.id}-{self.key}.sif"

    def record(self, folder: Path) -> Path:
        """Returns the path of the record that is written once the SIF was tried."""
        return self.sif(folder).with_suffix(".json")


def read_wanted(path: Path) -> dict[str, Image]:
    """Reads the entries of `containers/images.yaml`, without digests.

    Raises:
        ConfigError: An entry is wrong.
    """
    return _read(path, ("reference",), ("check",))


def read_lock(path: Path) -> dict[str, Image]:
    """Reads the entries of `containers/images.lock.yaml`.

    Raises:
        ConfigError: An entry is wrong.
    """
    return _read(path, ("reference", "digest", "architectures"), ("check", "resolved"))


def ensure(
    image: Image,
    folder: Path,
    apptainer: Apptainer,
    progress: Progress = to_stderr,
    given: Path | None = None,
) -> Path:
    """Returns the record of `image`, pulling and trying it unless it is there. A second process waits.

    Args:
        image: The image.
        folder: The folder of images.
        apptainer: Runs the containers.
        progress: Takes lines for the user.
        given: A SIF that is on the machine already, which is only tried.

    Raises:
        UserError: The input, the login or the disk does not do.
        SlurmevalError: The network or the image does not work.
    """
    what, record = f"image {image.id}", image.record(folder)
    sif = given.absolute() if given is not None else image.sif(folder)
    if is_whole(image, folder, given):
        return record
    if given is None:
        _need_digest(image)
    elif not sif.is_file():
        raise UserError(f"{what}: {sif}: no such file (containers.images of site.yaml)")
    with disk_errors(what, folder, REMEDY):
        folder.mkdir(parents=True, exist_ok=True)
        with owned(image.sif(folder), what, progress):
            if not is_whole(image, folder, given):
                _make(image, folder, apptainer, progress, given)
    return record


def is_whole(image: Image, folder: Path, given: Path | None = None) -> bool:
    """Returns whether the image was recorded, and its SIF is as it was then."""
    known = read(image.record(folder), ImageRecord)
    sif = given.absolute() if given is not None else image.sif(folder)
    return (
        known is not None
        and (known.digest, known.check, known.sif) == (image.digest, list(image.check), sif)
        and _stamp(sif) == (known.size, known.mtime_ns)
    )


def verify(record: Path, every: bool, progress: Progress = to_stderr) -> list[str]:
    """Returns what is wrong with a recorded SIF, in lines.

    Reads it only if its size or time differs from the record's, or with `every`. One that was merely touched
    or copied is recorded anew.
    """
    known = read(record, ImageRecord)
    if known is None:
        return [f"{record} is damaged"]
    sif = known.sif
    stamp = _stamp(sif)
    if stamp is None:
        return [f"{sif} is missing"]
    if stamp == (known.size, known.mtime_ns) and not every:
        return []
    if stamp[0] != known.size:
        return [f"{sif} has {stamp[0]} bytes instead of {known.size}"]
    progress(f"{record.stem}: hashing {size_text(stamp[0])}")
    if sha256_of_file(sif) != known.sha256:
        return [f"{sif} has other content than when it was recorded"]
    if stamp[1] != known.mtime_ns:
        write(record, replace(known, mtime_ns=stamp[1]))
    return []


def prune(
    images: Sequence[Image], folder: Path, dry_run: bool = False, keep: Collection[Path] = ()
) -> list[Path]:
    """Removes SIFs and records of earlier locks, and remains of killed pulls.

    Images that are being pulled now stay, and so do SIFs elsewhere.

    Args:
        images: Entries whose SIFs stay.
        folder: The folder of images.
        dry_run: Removes nothing.
        keep: Further SIFs that stay (absolute).

    Returns what was removed.
    """
    wanted = {image.sif(folder).stem for image in images}
    wanted |= {sif.stem for sif in keep if sif.parent == folder.absolute()}
    named = re.compile(rf"(?P<stem>.+-(?:[0-9a-f]{{12}}|{_UNLOCKED}))(?:\.sif|\.json|\.log)?")
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.glob("*-*.*"), *(folder / ".pulling").glob("*-*")]):
        match = named.fullmatch(path.name)
        if match is None or (match["stem"] in wanted and path.parent == folder):
            continue
        found.setdefault(match["stem"], []).append(path)
    removed = []
    for stem, paths in found.items():
        sif = folder.absolute() / f"{stem}.sif"
        try:
            with owned(sif, stem, lambda _: None, wait_s=0):
                there = [path for path in sorted(paths, key=_order) if path.exists()]
                for path in [] if dry_run else there:
                    remove_tree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except SlurmevalError:  # it is being pulled just now
            continue
        removed += there
    return removed


def _order(path: Path) -> bool:
    """Sorts the record first: a SIF without one is no image."""
    return path.suffix != ".json"


def _make(image: Image, folder: Path, apptainer: Apptainer, progress: Progress, given: Path | None) -> None:
    what, sif = f"image {image.id}", image.sif(folder)
    if given is None and not _is_pulled(image, folder, progress):
        image.record(folder).unlink(missing_ok=True)
        sif.unlink(missing_ok=True)
        reference = Reference.parse(image.reference)
        pinned = Reference(reference.host, reference.path, reference.tag, image.digest)
        pull(what, pinned, sif, apptainer, progress)
    scratch = work_folder(sif) / "check"
    remove_tree(scratch)
    scratch.mkdir(parents=True)
    try:
        file = given.absolute() if given is not None else sif
        checker = Checker(what, file, apptainer, scratch, log_of(sif), progress)
        _record(image, folder, file, checker.check(image.check), progress)
    except SlurmevalError as error:
        if given is not None:
            raise
        raise type(error)(f"{error}; remove {sif} to have it pulled again") from error
    finally:
        remove_remains(sif)


def _record(image: Image, folder: Path, file: Path, found: Found, progress: Progress) -> None:
    """Writes the record of a SIF that works."""
    stamp = _stamp(file)
    progress(f"image {image.id}: hashing {size_text(stamp[0] if stamp else 0)}")
    sha256 = sha256_of_file(file)
    if stamp is None or stamp != _stamp(file):
        raise SlurmevalError(f"image {image.id}: {file} changed while it was looked at")
    pulled_at = datetime.fromtimestamp(stamp[1] / 1e9, UTC).isoformat(timespec="seconds")
    made = ImageRecord(
        id=image.id,
        reference=image.reference,
        digest=image.digest,
        check=list(image.check),
        sif=file,
        size=stamp[0],
        mtime_ns=stamp[1],
        sha256=sha256,
        architecture=found.architecture,
        packages=found.packages,
        programs=found.programs,
        labels=found.labels,
        apptainer=found.apptainer,
        pulled_at=pulled_at if file == image.sif(folder) else None,
    )
    write(image.record(folder), made)


def _is_pulled(image: Image, folder: Path, progress: Progress) -> bool:
    """Returns whether the SIF need not be pulled again.

    Either it is as recorded, though touched, copied or to be tried with another command; or it is complete,
    and whoever made it was killed, or found it not working, before the record.
    """
    record, sif = image.record(folder), image.sif(folder)
    known = read(record, ImageRecord)
    if known is not None and (known.digest, known.sif) == (image.digest, sif):
        return not verify(record, False, progress)
    try:
        return bool(sif_architecture(image.id, sif))
    except UserError:
        return False


def _need_digest(image: Image) -> None:
    if not DIGEST.fullmatch(image.digest):
        raise UserError(
            f"image {image.id}: has no digest in containers/images.lock.yaml yet: "
            f"`slurmeval images lock {image.id}`, where there is internet"
        )
    here = this_architecture()
    if image.architectures and here not in image.architectures:
        raise UserError(
            f"image {image.id}: {image.reference} is not made for {here}, the architecture of this machine; "
            f"there is: {', '.join(image.architectures)}"
        )


def _stamp(sif: Path) -> tuple[int, int] | None:
    """Returns size and modification time of a file, or None if there is none."""
    try:
        status = sif.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _read(path: Path, needed: Sequence[str], also: Sequence[str]) -> dict[str, Image]:
    entries = read_yaml(path, str(path))
    images = {}
    for name, entry in entries.items():
        place = f"{path}: {name}"
        if not _ID.fullmatch(name):
            raise ConfigError(f"{place}: an id has letters, digits, `-`, `_` and `.` only")
        if not isinstance(entry, dict):
            raise ConfigError(f"{place}: expected a mapping, with {', '.join(needed)}")
        for key, value in entry.items():
            if key not in (*needed, *also):
                raise ConfigError(f"{place}.{key}: unknown; there are: {', '.join((*needed, *also))}")
            if not isinstance(value, _KEYS[key]) or (
                isinstance(value, list) and not all(isinstance(item, str) for item in value)
            ):
                raise ConfigError(
                    f"{place}.{key}: expected {'text' if _KEYS[key] is str else 'a list of texts'}"
                )
        for key in needed:
            if not entry.get(key):
                raise ConfigError(f"{place}.{key}: is missing")
        if "digest" in entry and not DIGEST.fullmatch(entry["digest"]):
            raise ConfigError(f"{place}.digest: expected sha256: and 64 hexadecimal digits")
        try:
            Reference.parse(entry["reference"])
        except UserError as error:
            raise ConfigError(f"{place}.reference: {error}") from None
        images[name] = Image(
            id=name,
            reference=entry["reference"],
            digest=entry.get("digest", ""),
            architectures=tuple(entry.get("architectures", ())),
            check=tuple(entry.get("check", ())),
            resolved=entry.get("resolved", ""),
        )
    return images

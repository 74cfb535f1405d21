"""The lock of images: the digest of each tag, asked of the registries once and committed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from slurmeval.containers.images import Image, read_lock, read_wanted
from slurmeval.containers.reference import Reference
from slurmeval.containers.registry import Registry
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_atomically
from slurmeval.progress import Progress

ASKED_AT_ONCE = 8
_HEADER = "# Made from images.yaml by `slurmeval images lock`: do not edit, but commit it.\n"


@dataclass(frozen=True)
class ImageChange:
    """Difference of one entry."""

    id: str
    before: Image | None
    after: Image | None

    @property
    def moved(self) -> bool:
        """Whether the same name stands for another digest now."""
        return (
            self.before is not None
            and self.after is not None
            and self.before.reference == self.after.reference
            and self.before.digest != self.after.digest
        )

    def __str__(self) -> str:
        """Returns a line for the user."""
        if self.after is None:
            return f"{self.id}: removed; images.yaml has it no more"
        if self.before is None:
            return f"{self.id}: {self.after.reference} is {self.after.digest}"
        if self.moved:
            return (
                f"{self.id}: DIGEST CHANGED: {self.after.reference} now names {self.after.digest}, "
                f"and not {self.before.digest}: another image was pushed under this tag"
            )
        if self.before.digest != self.after.digest:
            return f"{self.id}: {self.before.reference} -> {self.after.reference}, {self.after.digest}"
        return f"{self.id}: same image, other entry"


def select(images: dict[str, Image], ids: Sequence[str], where: Path) -> list[Image]:
    """Returns the named entries, or all.

    Raises:
        UserError: An id is not there.
    """
    for name in ids:
        if name not in images:
            raise UserError(f"{name}: no image of that id in {where}; there are: {', '.join(sorted(images))}")
    return [images[name] for name in ids] if ids else list(images.values())


def lock(
    wanted_file: Path, lock_file: Path, ids: Sequence[str], progress: Progress, write: bool = True
) -> tuple[list[ImageChange], list[SlurmevalError]]:
    """Asks the registries for the named images, or all, and writes the answers into the lock.

    Returns the differences, and the errors. Entries with an error stay as they are.
    """
    wanted = read_wanted(wanted_file)
    locked = read_lock(lock_file) if lock_file.exists() else {}
    after, changes, failures = dict(locked), [], []
    chosen = select(wanted, ids, wanted_file)
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        answers = [pool.submit(resolve, image, locked.get(image.id), progress) for image in chosen]
    for image, answer in zip(chosen, answers, strict=True):
        try:
            after[image.id] = answer.result()
        except SlurmevalError as error:
            failures.append(error)
    for name in sorted({*locked} - {*wanted} if not ids else ()):
        del after[name]
    for name in sorted({*locked, *after}):
        if locked.get(name) != after.get(name):
            changes.append(ImageChange(name, locked.get(name), after.get(name)))
    if write and changes:
        write_atomically(lock_file, _text(after.values(), _header(lock_file)))
    return changes, failures


def resolve(wanted: Image, locked: Image | None, progress: Progress) -> Image:
    """Returns the lock's entry for `wanted`.

    If the digest is the same as before, nothing but the digest is asked for.
    """
    registry = Registry(f"image {wanted.id}", Reference.parse(wanted.reference), progress)
    if locked is not None and locked.reference == wanted.reference and registry.digest() == locked.digest:
        return replace(locked, check=wanted.check)
    named = registry.named()
    today = datetime.now(UTC).date().isoformat()
    return replace(wanted, digest=named.digest, architectures=named.architectures, resolved=today)


def _text(images: Iterable[Image], header: str) -> str:
    entries: dict[str, dict[str, Any]] = {}
    for image in sorted(images, key=lambda image: image.id):
        entry: dict[str, Any] = {"reference": image.reference, "digest": image.digest}
        entry["architectures"] = list(image.architectures)
        if image.check:
            entry["check"] = list(image.check)
        if image.resolved:
            entry["resolved"] = image.resolved
        entries[image.id] = entry
    body = yaml.safe_dump(entries, sort_keys=False, default_flow_style=None, width=200)
    return header + body


def _header(lock_file: Path) -> str:
    """Returns the comment at the beginning of the lock, which stays as it is."""
    if not lock_file.exists():
        return _HEADER
    lines = []
    for line in lock_file.read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.startswith("#"):
            break
        lines.append(line)
    return "".join(lines) or _HEADER

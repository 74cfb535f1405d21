"""Names of images in registries."""

from __future__ import annotations

import re
from dataclasses import dataclass

from slurmeval.errors import UserError

DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_REFERENCE = re.compile(
    r"(?:docker://)?(?:(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::\d+)?)/)?"
    r"(?P<path>[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """Name of an image in a registry."""

    host: str
    path: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Reads `nvcr.io/nvidia/eval-factory/bfcl:26.03`; a name without a host is one of Docker Hub.

        Raises:
            UserError: The text names no image.
        """
        found = _REFERENCE.fullmatch(text)
        hub_user = found is not None and found["host"] is not None and not _is_host(found["host"])
        if found is None or (hub_user and found["host"] != found["host"].lower()):
            raise UserError(f"{text!r} names no image; such as nvcr.io/nvidia/eval-factory/bfcl:26.03")
        host, path = found["host"], found["path"]
        if hub_user:
            host, path = None, f"{host}/{path}"
        if host in (None, "docker.io", "index.docker.io"):
            host, path = "docker.io", path if "/" in path else f"library/{path}"
        tag = found["tag"] or (None if found["digest"] else "latest")
        return cls(host, path, tag, found["digest"])

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    def at(self, digest: str) -> str:
        """Returns the pinned name as Apptainer takes it."""
        return f"docker://{self.repository}@{digest}"

    def __str__(self) -> str:
        """Returns the name as people write it."""
        return (
            self.repository
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def _is_host(name: str) -> bool:
    """Returns whether the first part of an image's name is a registry, and not a user of Docker Hub."""
    return "." in name or ":" in name or name == "localhost"

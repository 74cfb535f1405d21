"""Packages made on the fly: wheels that pip and uv install from a folder."""

import zipfile
from collections.abc import Mapping
from pathlib import Path


def build_wheel(
    folder: Path,
    name: str,
    version: str,
    content: str = "",
    requires: str = "",
    data: Mapping[str, bytes] | None = None,
) -> Path:
    """A pure wheel with one module, a script `<name>-run` and the files of `data`."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    members = {
        f"{name}.py": content or f"VERSION = '{version}'\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-run = {name}:main\n",
    }
    members[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in members.items():
            archive.writestr(path, text)
        for path, content_of_file in (data or {}).items():
            archive.writestr(path, content_of_file)
    return wheel

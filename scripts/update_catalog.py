"""Writes the catalog of tasks anew from a wheel of nemo-evaluator-launcher, and says what that changes.

The wheel has `resources/all_tasks_irs.yaml`, all definitions as the harnesses' images hold them, and
`resources/mapping.toml`, the list that they were gathered from. Tried with 0.1.80 to 0.2.6; 0.1.40 has only
the list.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
import sys
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from slurmeval.catalog.entries import OTHER, build, read_data
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_atomically

PACKAGE = "nemo-evaluator-launcher"
TASKS = "nemo_evaluator_launcher/resources/all_tasks_irs.yaml"
MAPPING = "nemo_evaluator_launcher/resources/mapping.toml"
ARCHITECTURES = {"multiarch": ["amd64", "arm64"], "amd": ["amd64"], "arm": ["arm64"]}
"""By the launcher's `arch`."""
CATALOG = Path(__file__).parents[1] / "src" / "slurmeval" / "catalog"
"""The folder of nemo.yaml and own.yaml."""
WHEELS = Path(".cache")
"""Where wheels are downloaded to."""
ABOUT_LENGTH = 160
"""Characters of a task's description that are kept."""
SHOWN_DIGEST_LENGTH = len("sha256:") + 12
"""Characters of a digest that are printed."""

_WHEEL = re.compile(r"nemo_evaluator_launcher-(?P<version>[^-]+)-.*\.whl")
_VERSION = re.compile(r"[0-9]+(\.[0-9]+)*[A-Za-z0-9.+]*")
_KEY_NAME = re.compile(r"(^|_)api_key(_name)?$")
_EXPORTED = re.compile(r"\b([A-Z][A-Z0-9_]*)=\$\{\{ *config\.params\.extra\.[\w.]*api_key\w* *\}\}")
_HEAD = """\
# Every harness and task of NeMo Evaluator. Written by scripts/update-catalog from nemo-evaluator-launcher
# (NVIDIA, Apache-2.0); do not edit. What is known beyond that is in own.yaml.
"""


@click.command()
@click.argument("source", metavar="VERSION|WHEEL")
@click.option("--dry-run", "-n", is_flag=True, help="Only print the difference.")
def update(source: str, dry_run: bool) -> None:
    """Makes the catalog anew from a version of nemo-evaluator-launcher, and prints the difference.

    VERSION is downloaded from the package index; WHEEL is a file that is there.
    """
    for line in rebuild(_wheel(source), CATALOG, dry_run):
        click.echo(line)


def rebuild(wheel: Path, folder: Path, dry_run: bool = False) -> list[str]:
    """Writes `folder`/nemo.yaml anew; returns the difference, and where own.yaml beside it no longer fits.

    The file is replaced as a whole, or stays as it is.
    """
    old, own = (read_data((folder / name).read_text("utf-8")) for name in ("nemo.yaml", "own.yaml"))
    new = read_wheel(wheel)
    new["removed"] = removed(old, new)
    if not dry_run:
        write_atomically(folder / "nemo.yaml", as_text(new))
    return [*(differences(old, new) or ["no difference"]), *stale(new, own)]


def main(arguments: Sequence[str]) -> int:
    """Runs the program and returns the exit status; a failure that is foreseen is one line on stderr."""
    try:
        update.main(list(arguments), prog_name="scripts/update-catalog", standalone_mode=False)
    except click.ClickException as error:
        print(f"update-catalog: {error.format_message()}", file=sys.stderr)
        return error.exit_code
    except SlurmevalError as error:
        print(f"update-catalog: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    return 0


def _wheel(source: str) -> Path:
    if source.endswith(".whl"):
        return Path(source)
    if not _VERSION.fullmatch(source):
        raise UserError(f"{source!r} is neither a version of {PACKAGE}, such as 0.2.6, nor a wheel (*.whl)")
    from slurmeval.staging.packages import fetch_wheel

    return fetch_wheel(f"{PACKAGE}=={source}", WHEELS, lambda line: click.echo(line, err=True)).path


def read_wheel(wheel: Path) -> dict[str, Any]:
    """Returns what nemo.yaml is to hold, but for `removed`.

    Raises UserError (no such file, another package, one without definitions) or SlurmevalError (content of a
    form that is not known).
    """
    named = _WHEEL.fullmatch(wheel.name)
    if named is None:
        raise UserError(f"{wheel}: is no wheel of {PACKAGE} (nemo_evaluator_launcher-VERSION-….whl)")
    try:
        with zipfile.ZipFile(wheel) as archive:
            definitions, mapping = archive.read(TASKS), archive.read(MAPPING)
    except FileNotFoundError as error:
        raise UserError(f"{wheel}: no such file") from error
    except KeyError as error:
        raise UserError(f"{wheel}: has no {Path(TASKS).name}; 0.1.80 and later have it") from error
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise SlurmevalError(f"{wheel}: cannot be read: {error}") from error
    try:
        return _data(named["version"], yaml.load(definitions, yaml.CSafeLoader), mapping)
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise SlurmevalError(
            f"{wheel}: {Path(TASKS).name} has another form than is known: {error!r}"
        ) from error


def _data(version: str, content: Mapping[str, Any], mapping: bytes) -> dict[str, Any]:
    listed, checksum = content["metadata"], f"sha256:{hashlib.sha256(mapping).hexdigest()}"
    if listed["mapping_toml_checksum"] != checksum:
        raise SlurmevalError(f"{PACKAGE} {version}: the definitions were not made from its mapping.toml")
    harnesses: dict[str, dict[str, Any]] = {}
    for entry in content["harnesses"]:
        image, _, tag = entry["container"].rpartition(":")
        harnesses[entry["name"]] = {
            "full_name": entry["full_name"],
            "image": image,
            "tag": tag,
            "digest": entry["container_digest"],
            "architectures": ARCHITECTURES[entry["arch"]],
            **({"url": entry["url"]} if entry.get("url") else {}),
            "tasks": {},
        }
    for task in content["tasks"]:
        harness = harnesses[task["harness"]]
        harness["module"] = task["defaults"]["pkg_name"]
        harness["tasks"][task["name"]] = _task(task)
    counted = sum(len(harness["tasks"]) for harness in harnesses.values())
    if (counted, len(harnesses)) != (listed["num_tasks"], listed["num_harnesses"]):
        text = f"{counted} tasks of {len(harnesses)} harnesses, but its metadata say otherwise"
        raise SlurmevalError(f"{PACKAGE} {version}: has {text}")
    return {"launcher": {"version": version, "mapping": checksum}, "harnesses": harnesses}


def _task(task: Mapping[str, Any]) -> dict[str, Any]:
    defaults = task["defaults"]
    config, params = defaults["config"], defaults["config"]["params"]
    found = {
        "endpoints": config["supported_endpoint_types"],
        "native": params.get("task") if params.get("task") != task["name"] else None,
        "capabilities": config.get("required_capabilities"),
        "env": sorted({*_key_names(params.get("extra")), *_EXPORTED.findall(defaults["command"])}),
        "about": about(task["description"]),
    }
    return {key: value for key, value in found.items() if value}


def _key_names(value: Any) -> Iterator[str]:
    """Yields the variables that parameters name as the place of a key."""
    if isinstance(value, Mapping):
        for key, below in value.items():
            if isinstance(below, str) and _KEY_NAME.search(key):
                yield below
            yield from _key_names(below)


def about(description: str | Sequence[str] | None) -> str:
    """Returns a description in one line: bullets joined, whole sentences as far as they fit."""
    text = description if isinstance(description, str) else " ".join(description or ())
    text = " ".join(re.sub(r"(^|\s)- ", " ", text).split())
    if len(text) <= ABOUT_LENGTH:
        return text
    end = text.rfind(". ", 0, ABOUT_LENGTH)
    return text[: end + 1] if end > 0 else f"{text[: ABOUT_LENGTH - 1].rsplit(' ', 1)[0]}…"


def removed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Returns tasks that `old`, or one before it, had and `new` lacks, with the version that lost each."""
    there, version = set(full_names(new)), str(new["launcher"]["version"])
    gone = {**dict.fromkeys(full_names(old), version), **old.get("removed", {})}
    return {name: since for name, since in sorted(gone.items()) if name not in there}


def full_names(data: Mapping[str, Any]) -> Iterable[str]:
    """Returns `harness.task` for each task."""
    return [f"{name}.{task}" for name, harness in data["harnesses"].items() for task in harness["tasks"]]


def as_text(data: Mapping[str, Any]) -> str:
    """Returns the text of nemo.yaml: a line for each task, so that git shows what changed."""
    lines = [
        _HEAD + f"launcher: {_flow(data['launcher'])}",
        f"removed: {_flow(data['removed'])}",
        "harnesses:",
    ]
    for name, harness in data["harnesses"].items():
        lines.append(f"  {_flow(name)}:")
        lines += [f"    {key}: {_flow(value)}" for key, value in harness.items() if key != "tasks"]
        lines.append("    tasks:")
        lines += [f"      {_flow(task)}: {_flow(values)}" for task, values in harness["tasks"].items()]
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
    return text.removesuffix("...\n").strip()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Returns lines for what came (+), went (-) or changed (~); none where nothing did.

    Tasks of one harness that changed in one way share a line.
    """
    lines = [*_harnesses(old["harnesses"], new["harnesses"])]
    for name in [*new["harnesses"], *(name for name in old["harnesses"] if name not in new["harnesses"])]:
        before, now = (data["harnesses"].get(name, {}).get("tasks", {}) for data in (old, new))
        lines += [f"+ {name}.{task}" for task in now if task not in before]
        lines += [f"- {name}.{task}" for task in before if task not in now]
        alike: dict[str, list[str]] = {}
        for task in now:
            if task in before and (changed := _changes(before[task], now[task])):
                alike.setdefault(changed, []).append(f"{name}.{task}")
        lines += [f"~ {', '.join(tasks)}: {changed}" for changed, tasks in alike.items()]
    versions = [str(data["launcher"]["version"]) for data in (old, new)]
    if lines or versions[0] != versions[1]:
        counts = [sum(len(each["tasks"]) for each in data["harnesses"].values()) for data in (old, new)]
        sizes = [len(data["harnesses"]) for data in (old, new)]
        head = f"launcher {versions[0]} -> {versions[1]}"
        lines.insert(0, f"{head}: {counts[0]} -> {counts[1]} tasks, {sizes[0]} -> {sizes[1]} harnesses")
    return lines


def _harnesses(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    yield from (
        f"+ harness {name}: {new[name]['image']}:{new[name]['tag']}" for name in new if name not in old
    )
    yield from (f"- harness {name}" for name in old if name not in new)
    for name in new:
        if name in old and (changed := _changes(_without_tasks(old[name]), _without_tasks(new[name]))):
            yield f"~ harness {name}: {changed}"


def _without_tasks(harness: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in harness.items() if key != "tasks"}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    keys = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} {_shown(key, old.get(key))} -> {_shown(key, new.get(key))}" for key in keys)


def _shown(key: str, value: Any) -> str:
    if key == "digest" and isinstance(value, str):
        return value[:SHOWN_DIGEST_LENGTH]
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return "none" if value is None else repr(value) if key == "about" else str(value)


def stale(launcher: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Returns one line (?) for each task without a group, and each name in own.yaml that fits nothing."""
    catalog = build(launcher, own)
    lines = [f"? {name}: no group in own.yaml" for name, task in catalog.tasks.items() if task.group == OTHER]
    patterns = [*own["executes_code"], *own["evaluates_calls"], *own["asks_judge"], *own["image_only"]]
    for section in ("groups", "gated"):
        patterns += [pattern for listed in own[section].values() for pattern in listed]
    lines += [
        f"? own.yaml: '{pattern}' names no task"
        for pattern in dict.fromkeys(patterns)
        if not any(fnmatch.fnmatchcase(name, pattern) for name in catalog.tasks)
    ]
    lines += [
        f"? own.yaml: packages: no harness {name}"
        for name in own["packages"]
        if name not in catalog.harnesses
    ]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

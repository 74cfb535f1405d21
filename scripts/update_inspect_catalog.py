"""Makes the catalog of inspect_evals' tasks (`scripts/update-inspect-catalog`).

What a task needs stands in the package itself: in the `eval.yaml` of its folder (data, sandbox, network,
GPU), in its code (judges and other roles, by the names that it passes to Inspect), and in its extras.
"""

from __future__ import annotations

import json
import re
from email.parser import Parser
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from slurmeval.environments.environments import ensure
from slurmeval.environments.locks import normalised, read_lock
from slurmeval.environments.package_versions import site_packages
from slurmeval.harnesses.inspect.tasks import FILE

PROJECT = Path(__file__).parents[1]
ROLE = re.compile(r"""(?:get_model\(\s*role|\bmodel_role\s*(?::\s*[\w |]+)?)\s*=\s*["'](\w+)["']""")
GRADED = re.compile(r"\bmodel_graded_(?:qa|fact)\b")
HEAD = """\
# Tasks of inspect_evals {version} and what each needs, by scripts/update-inspect-catalog from the package.
# Do not edit. data: where it is fetched from (nothing: it is in the package). sandbox: who runs programs
# in one, scorer or solver. internet, gpu: the task itself needs one. roles: models that it asks beside the
# evaluated one. lacks: packages that containers/locks/inspect.lock does not have.
"""


def needs(folder: Path, content: dict[str, Any]) -> dict[str, Any]:
    """Returns what the tasks of a folder need, without what is not so."""
    assets = content.get("external_assets") or []
    metadata = content.get("metadata") or {}
    requires = metadata.get("requires") or {}
    code = "\n".join(path.read_text("utf-8", errors="replace") for path in sorted(folder.rglob("*.py")))
    roles = set(ROLE.findall(code))
    if GRADED.search(code):
        roles.add("grader")
    sandbox = metadata.get("sandbox") or []
    found = {
        "data": sorted({str(asset["source"]) for asset in assets}),
        "sandbox": sandbox if isinstance(sandbox, list) else [str(sandbox)],
        "internet": bool(requires.get("internet")),
        "gpu": bool(requires.get("gpu")),
        "roles": sorted(roles),
    }
    return {key: value for key, value in found.items() if value}


def lacking(packages: Path, extra: str | None, locked: set[str]) -> list[str]:
    """Returns the packages of an extra that the lock does not have."""
    metadata = next(packages.glob("inspect_evals-*.dist-info")) / "METADATA"
    asked = Parser().parsestr(metadata.read_text("utf-8")).get_all("Requires-Dist") or []
    wanted = [Requirement(line) for line in asked if extra is not None and "extra ==" in line]
    names = {
        normalised(each.name)
        for each in wanted
        if each.marker is not None and each.marker.evaluate({"extra": normalised(extra or "")})
    }
    return sorted(name for name in names - locked if not name.startswith("types-") and "stubs" not in name)


def main() -> None:
    """Writes the catalog."""
    lock = read_lock(PROJECT / "containers/locks/inspect.lock")
    packages = site_packages(ensure(lock.path, PROJECT / ".environments").folder)
    assert packages is not None
    tasks: dict[str, Any] = {}
    for path in sorted((packages / "inspect_evals").glob("*/eval.yaml")):
        content = yaml.safe_load(path.read_text("utf-8"))
        if not isinstance(content, dict) or "tasks" not in content:
            continue
        needed = needs(path.parent, content)
        lacks = lacking(packages, content.get("dependency"), set(lock.packages))
        for task in content["tasks"]:
            tasks[task["name"]] = {
                "title": str(content["title"]),
                "group": content["group"],
                "samples": task.get("dataset_samples"),
                **needed,
                **({"lacks": lacks} if lacks else {}),
            }
    head = HEAD.format(version=lock.packages["inspect-evals"])
    lines = [f"{name}: {json.dumps(needed, ensure_ascii=False)}\n" for name, needed in sorted(tasks.items())]
    FILE.write_text(head + "".join(lines), "utf-8")
    print(f"{len(tasks)} tasks")


if __name__ == "__main__":
    main()

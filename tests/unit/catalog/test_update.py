"""The catalog made anew from a launcher's wheel: what it prints, what it keeps, and what it refuses."""

from __future__ import annotations

import copy
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from scripts import update_catalog as update

from slurmeval.catalog.entries import build, read_data
from slurmeval.errors import SlurmevalError, UserError

PROJECT = Path(__file__).parents[3]
DIGEST = "sha256:" + "a" * 64
MAPPING = b"[bfcl]\n"
OWN = (PROJECT / "src/slurmeval/catalog/own.yaml").read_text()


def definition(harness: str, name: str, **config: Any) -> dict[str, Any]:
    return {
        "name": name,
        "harness": harness,
        "description": "- One thing. - Another thing.",
        "defaults": {
            "pkg_name": "bfcl",
            "command": "OPENAI_API_KEY=${{target.api_endpoint.api_key_name}} run",
            "config": {
                "type": name,
                "supported_endpoint_types": ["chat"],
                "params": {"task": name, "extra": {}},
                **config,
            },
        },
    }


LAUNCHER: dict[str, Any] = {
    "harnesses": [
        {
            "name": "bfcl",
            "full_name": "Functions",
            "url": None,
            "container": "nvcr.io/nvidia/eval-factory/bfcl:26.03",
            "container_digest": DIGEST,
            "arch": "multiarch",
        }
    ],
    "tasks": [definition("bfcl", "one"), definition("bfcl", "two")],
}


def wheel_of(folder: Path, version: str, launcher: dict[str, Any], mapping: bytes = MAPPING) -> Path:
    """A wheel with what `update` reads, in the launcher's own layout. JSON is YAML too."""
    content = {
        "metadata": {
            "mapping_toml_checksum": f"sha256:{hashlib.sha256(MAPPING).hexdigest()}",
            "num_tasks": len(launcher["tasks"]),
            "num_harnesses": len(launcher["harnesses"]),
        },
        **launcher,
    }
    path = folder / f"nemo_evaluator_launcher-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(update.TASKS, json.dumps(content))
        archive.writestr(update.MAPPING, mapping)
    return path


@pytest.fixture
def launcher() -> dict[str, Any]:
    return copy.deepcopy(LAUNCHER)


@pytest.fixture
def folder(tmp_path: Path, launcher: dict[str, Any]) -> Path:
    """A catalog's folder, made from version 1.0."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "own.yaml").write_text(OWN)
    (folder / "nemo.yaml").write_text("launcher: {version: none}\nremoved: {}\nharnesses: {}\n")
    update.rebuild(wheel_of(tmp_path, "1.0", launcher), folder)
    return folder


def written(folder: Path) -> dict[str, Any]:
    return read_data((folder / "nemo.yaml").read_text())


def changes(lines: list[str]) -> list[str]:
    """Without what own.yaml says of harnesses that these small launchers do not have."""
    return [line for line in lines if not line.startswith("? own.yaml")]


def test_a_wheel_becomes_a_catalog(folder: Path) -> None:
    harness = written(folder)["harnesses"]["bfcl"]
    assert harness == {
        "full_name": "Functions",
        "image": "nvcr.io/nvidia/eval-factory/bfcl",
        "tag": "26.03",
        "digest": DIGEST,
        "architectures": ["amd64", "arm64"],
        "module": "bfcl",
        "tasks": {
            name: {"endpoints": ["chat"], "about": "One thing. Another thing."} for name in ("one", "two")
        },
    }
    catalog = build(written(folder), read_data(OWN))
    assert catalog.launcher == "1.0"
    assert catalog.tasks["bfcl.one"].evaluates_calls, "our own knowledge is laid over it"


def test_the_same_launcher_makes_no_difference(folder: Path, tmp_path: Path) -> None:
    before = (folder / "nemo.yaml").read_bytes()
    lines = update.rebuild(tmp_path / "nemo_evaluator_launcher-1.0-py3-none-any.whl", folder)
    assert changes(lines) == ["no difference"]
    assert (folder / "nemo.yaml").read_bytes() == before


def test_the_difference_is_printed(folder: Path, tmp_path: Path, launcher: dict[str, Any]) -> None:
    launcher["harnesses"][0] |= {"container": "registry/bfcl:26.05", "container_digest": "sha256:" + "b" * 64}
    launcher["harnesses"].append(launcher["harnesses"][0] | {"name": "brand-new", "arch": "amd"})
    launcher["tasks"] = [
        definition("bfcl", "one", supported_endpoint_types=["chat", "completions"]),
        definition("bfcl", "three", required_capabilities=["logprobs"]),
        definition("brand-new", "first"),
    ]
    assert changes(update.rebuild(wheel_of(tmp_path, "1.1", launcher), folder)) == [
        "launcher 1.0 -> 1.1: 2 -> 3 tasks, 1 -> 2 harnesses",
        "+ harness brand-new: registry/bfcl:26.05",
        "~ harness bfcl: image nvcr.io/nvidia/eval-factory/bfcl -> registry/bfcl, tag 26.03 -> 26.05, "
        "digest sha256:aaaaaaaaaaaa -> sha256:bbbbbbbbbbbb",
        "+ bfcl.three",
        "- bfcl.two",
        "~ bfcl.one: endpoints [chat] -> [chat, completions]",
        "+ brand-new.first",
        "? brand-new.first: no group in own.yaml",
    ]


def test_own_knowledge_that_fits_nothing_is_named(folder: Path, tmp_path: Path) -> None:
    own = read_data(OWN)
    own["executes_code"].append("bfcl.no_such_*")
    (folder / "own.yaml").write_text(json.dumps(own))
    lines = update.rebuild(tmp_path / "nemo_evaluator_launcher-1.0-py3-none-any.whl", folder)
    assert "? own.yaml: 'bfcl.no_such_*' names no task" in lines
    assert "? own.yaml: packages: no harness hle" in lines
    assert json.loads((folder / "own.yaml").read_text()) == own, "it is left alone"


def test_what_was_removed_is_remembered_until_it_is_back(
    folder: Path, tmp_path: Path, launcher: dict[str, Any]
) -> None:
    less = launcher | {"tasks": launcher["tasks"][:1]}
    update.rebuild(wheel_of(tmp_path, "1.1", less), folder)
    assert written(folder)["removed"] == {"bfcl.two": "1.1"}
    update.rebuild(wheel_of(tmp_path, "1.2", less), folder)
    assert written(folder)["removed"] == {"bfcl.two": "1.1"}, "the version that first had it no more"
    update.rebuild(wheel_of(tmp_path, "1.3", launcher), folder)
    assert written(folder)["removed"] == {}


def test_a_dry_run_writes_nothing(folder: Path, tmp_path: Path, launcher: dict[str, Any]) -> None:
    before = (folder / "nemo.yaml").read_bytes()
    less = launcher | {"tasks": launcher["tasks"][:1]}
    assert "- bfcl.two" in update.rebuild(wheel_of(tmp_path, "1.1", less), folder, dry_run=True)
    assert (folder / "nemo.yaml").read_bytes() == before


def test_variables_are_those_of_other_models(tmp_path: Path, launcher: dict[str, Any]) -> None:
    task = launcher["tasks"][0]["defaults"]
    task["command"] = (
        "API_KEY=${{target.api_endpoint.api_key_name}} && "
        "export JUDGE_API_KEY=${{config.params.extra.judge.api_key}} && "
        "MODEL=${{config.params.extra.judge.model_id}}"
    )
    task["config"]["params"]["extra"] = {
        "user": {"api_key": "USER_API_KEY", "model_id": "SOME_MODEL"},
        "judge": {"api_key": None},
        "gpt_judge_api_key": "GPT_JUDGE_API_KEY",
    }
    data = update.read_wheel(wheel_of(tmp_path, "1.1", launcher))
    assert data["harnesses"]["bfcl"]["tasks"]["one"]["env"] == [
        "GPT_JUDGE_API_KEY",
        "JUDGE_API_KEY",
        "USER_API_KEY",
    ]


@pytest.mark.parametrize(
    ("description", "line"),
    [
        (None, ""),
        ("- One. - Two.", "One. Two."),
        (["One.", "Two."], "One. Two."),
        ("  many\n  spaces ", "many spaces"),
        ("First. " + "x" * 200, "First."),
        ("word " * 100, "word " * 30 + "word…"),
    ],
)
def test_descriptions_become_one_line(description: Any, line: str) -> None:
    assert update.about(description) == line
    assert len(update.about(description)) <= update.ABOUT_LENGTH


def test_another_package_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no wheel of nemo-evaluator-launcher"):
        update.read_wheel(tmp_path / "other-1.0-py3-none-any.whl")
    with pytest.raises(UserError, match="no such file"):
        update.read_wheel(tmp_path / "nemo_evaluator_launcher-7.0-py3-none-any.whl")


def test_a_launcher_without_definitions_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nemo_evaluator_launcher-0.1.40-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(update.MAPPING, MAPPING)
    with pytest.raises(UserError, match=r"has no all_tasks_irs.yaml; 0.1.80 and later have it"):
        update.read_wheel(path)


def test_a_truncated_wheel_is_refused_and_the_catalog_stays(
    folder: Path, tmp_path: Path, launcher: dict[str, Any]
) -> None:
    before = (folder / "nemo.yaml").read_bytes()
    path = wheel_of(tmp_path, "1.1", launcher)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SlurmevalError, match="cannot be read"):
        update.rebuild(path, folder)
    assert (folder / "nemo.yaml").read_bytes() == before


def test_definitions_of_another_mapping_are_refused(tmp_path: Path, launcher: dict[str, Any]) -> None:
    with pytest.raises(SlurmevalError, match=r"were not made from its mapping.toml"):
        update.read_wheel(wheel_of(tmp_path, "1.1", launcher, mapping=b"[other]\n"))


@pytest.mark.parametrize("lost", ["harness", "defaults", "name"])
def test_definitions_of_an_unknown_form_are_refused(
    tmp_path: Path, launcher: dict[str, Any], lost: str
) -> None:
    del launcher["tasks"][1][lost]
    with pytest.raises(SlurmevalError, match="another form than is known"):
        update.read_wheel(wheel_of(tmp_path, "1.1", launcher))


def test_a_task_that_is_there_twice_is_refused(tmp_path: Path, launcher: dict[str, Any]) -> None:
    launcher["tasks"].append(launcher["tasks"][0])
    with pytest.raises(SlurmevalError, match="2 tasks of 1 harnesses, but its metadata say otherwise"):
        update.read_wheel(wheel_of(tmp_path, "1.1", launcher))


def test_a_full_disk_leaves_the_catalog_as_it_was(
    folder: Path, tmp_path: Path, launcher: dict[str, Any]
) -> None:
    before = (folder / "nemo.yaml").read_bytes()
    launcher["tasks"] += [definition("bfcl", f"more_{number}") for number in range(500)]
    wheel = wheel_of(tmp_path, "1.1", launcher)
    code = (
        "import sys; from pathlib import Path; from scripts.update_catalog import rebuild;"
        "rebuild(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    run = subprocess.run(
        [sys.executable, "-B", "-c", code, wheel, folder],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
    )
    assert run.returncode != 0
    assert "File too large" in run.stderr
    assert (folder / "nemo.yaml").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["nemo.yaml", "own.yaml"]


def script(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROJECT / "scripts" / "update-catalog", *arguments], capture_output=True, text=True, check=False
    )


def test_the_script_prints_the_difference(tmp_path: Path, launcher: dict[str, Any]) -> None:
    assert shutil.which("bash")
    run = script("--dry-run", wheel_of(tmp_path, "1.1", launcher))
    assert run.returncode == 0, run.stderr
    assert "-> 1.1: 421 -> 2 tasks, 23 -> 1 harnesses" in run.stdout
    assert "- harness hle\n" in run.stdout


def test_the_script_refuses_what_is_no_version(tmp_path: Path) -> None:
    for arguments, text in (
        (["latest"], "'latest' is neither a version of nemo-evaluator-launcher, such as 0.2.6, nor a wheel"),
        ([], "Missing argument"),
        ([str(tmp_path / "nemo_evaluator_launcher-7.0-py3-none-any.whl")], "no such file"),
    ):
        run = script(*arguments)
        assert run.returncode == 2
        assert run.stderr.startswith("update-catalog: ") and text in run.stderr
        assert len(run.stderr.splitlines()) == 1

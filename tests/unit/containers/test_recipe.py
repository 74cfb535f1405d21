"""Definition files: the project's own say what they are made of, and a Dockerfile becomes one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from spython.main.parse.parsers import SingularityParser

from slurmeval.cli import main
from slurmeval.containers.recipe import definition_of, losses
from slurmeval.errors import UserError

PROJECT = Path(__file__).parents[3]
DEFINITIONS = sorted((PROJECT / "containers").glob("*.def"))
DOCKERFILE = """\
FROM python:3.11-slim
LABEL org.example.author="A. B."
ENV MODE=fast
WORKDIR /opt/app
COPY req.txt /opt/app/req.txt
RUN pip install -r req.txt && \\
    python3 -c 'import this'
ENTRYPOINT ["python3"]
CMD ["-m", "app"]
"""


def parsed(definition: Path) -> Any:
    """The one stage of a definition file."""
    [stage] = SingularityParser(str(definition)).recipe.values()
    return stage


def test_there_are_definition_files() -> None:
    assert [path.name for path in DEFINITIONS] == ["nemo-harness.def", "vllm-cpu.def"]


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
def test_base_is_named_in_full_with_its_version(definition: Path) -> None:
    base = parsed(definition).fromHeader
    assert re.fullmatch(r"[\w.-]+\.\w+/[\w./-]+:\d[\w.-]*(@sha256:[0-9a-f]{64})?", base), base


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
def test_lock_that_goes_in_is_there_and_is_installed(definition: Path) -> None:
    default = re.search(r"^\s+LOCK=(\S+)$", definition.read_text(), re.MULTILINE)
    [line] = parsed(definition).files
    source, goal = line.rsplit(maxsplit=1)
    if default:
        source = source.replace("{{ LOCK }}", default[1])
    assert (PROJECT / source).is_file()
    assert f"-r {goal}" in "\n".join(parsed(definition).install)


@pytest.mark.parametrize("definition", DEFINITIONS, ids=lambda path: path.name)
def test_image_is_tried_at_the_end_of_its_build_and_says_its_lock(definition: Path) -> None:
    assert parsed(definition).test
    assert any(label.startswith("slurmeval.lock ") for label in parsed(definition).labels)


@pytest.fixture
def dockerfile(tmp_path: Path) -> Path:
    path = tmp_path / "Dockerfile"
    path.write_text(DOCKERFILE)
    (tmp_path / "req.txt").touch()
    return path


def test_dockerfile_becomes_a_definition_file(
    dockerfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = definition_of(dockerfile)
    (tmp_path / "made.def").write_text(text)
    stage = parsed(tmp_path / "made.def")
    assert stage.fromHeader == "python:3.11-slim"
    assert stage.files == ["req.txt /opt/app/req.txt"]
    assert "cd /opt/app" in stage.install
    assert "pip install -r req.txt && \\\npython3 -c 'import this'" in text
    assert "export MODE=fast" in text
    assert 'exec python3 -m app "$@"' in text


def test_command_prints_it_and_says_what_is_lost(
    dockerfile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    dockerfile.write_text(DOCKERFILE + "USER nobody\n")
    assert main.run(["images", "recipe", "Dockerfile"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# Made from Dockerfile") and "\nBootstrap: docker\n" in out
    lines = err.splitlines()
    assert "Dockerfile: USER: Apptainer runs everything as the user who starts it" in lines
    assert "Dockerfile: FROM python:3.11-slim: a tag may move; name a digest (`@sha256:…`)" in lines


def test_stages_and_digests_are_not_taken_for_tags(tmp_path: Path) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"FROM a/b@sha256:{'0' * 64} AS build\nRUN true\nFROM build\nRUN true\n")
    assert losses(path) == []


@pytest.mark.parametrize("content", [b"", b"RUN true\n", b"\xff\xfe", None])
def test_what_is_no_dockerfile_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "Dockerfile"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot be read|expected a Dockerfile") as caught:
        definition_of(path)
    assert "\n" not in str(caught.value)

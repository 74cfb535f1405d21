"""What the documentation names is there: links, headings, files, configs."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import get_args

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.config.models import Benchmark
from tests.unit.test_imports import LAYERS

PROJECT = Path(__file__).parents[2]
FILES = subprocess.run(
    ["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True
).stdout.splitlines()
PAGES = sorted(PROJECT / name for name in FILES if name.endswith(".md"))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
SOURCE = re.compile(
    r"`((?:src|tests|scripts|config|containers|workflow|profiles|timings|docs)/[\w./-]*\w|[\w./-]+\.(?:py|smk|j2))`"
)
PAGES_OF_CODE = {"develop.md", "design.md", "extend.md", "engines.md", "gateway.md", "statistics.md"}
"""Pages that name classes and functions. Elsewhere a capital may begin a word of somebody else's."""
NAME = re.compile(r"`((?:[a-z_]+\.)*)(_?[A-Z][a-z]\w*|_[a-z]\w+|[A-Z]+_[A-Z_]+)(?:\.(\w+))?(?:\(.*?\))?`")
FOREIGN = {"Snakefile", "HF_HOME"}
"""A file and a variable."""
CODE = {path: (PROJECT / path).read_text() for path in FILES if re.fullmatch(r"src/.*\.py", path)}
MADE_BY_RUNS = {"config/hub.lock.yaml"}
CONFIG = re.compile(r"^```yaml\n(version: .*?)^```$", re.MULTILINE | re.DOTALL)
OWN_FILE = re.compile(r"`(mine/\w+\.\w+)`.*?```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED_IN_CODE = re.compile(r"docs/([a-z-]+\.md)(?:#([a-z0-9-]+))?")


def named(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def text_of(page: Path) -> str:
    """The page without its code blocks."""
    return FENCED.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and hosts of repositories make them."""
    titles = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", re.sub(r"\]\([^)]*\)", "", title)).strip().lower() for title in titles]
    return {re.sub(r"[\s-]+", "-", title) for title in plain} | {title.replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(text_of(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{target}: no such file"
        if anchor:
            assert anchor in anchors(linked), f"{target}: no such heading"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=named)
def test_named_files_are_there(page: Path) -> None:
    for path in {*SOURCE.findall(text_of(page))} - MADE_BY_RUNS:
        there = (PROJECT / path).exists() or any(f"/{file}".endswith(f"/{path}") for file in FILES)
        assert there, f"`{path}`: no such file"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name in PAGES_OF_CODE], ids=named)
def test_named_classes_and_functions_are_there(page: Path) -> None:
    for modules, name, member in NAME.findall(text_of(page)):
        if name in FOREIGN:
            continue
        module = modules.rstrip(".").replace(".", "/").removeprefix("slurmeval/")
        sources = [
            text
            for path, text in CODE.items()
            if f"/{path}".endswith((f"/{module}.py", f"/{module}/__init__.py")) or not module
        ]
        defined = re.compile(rf"^ *(?:class|def) {name}\b|^{name}\b.* = ", re.MULTILINE)
        assert any(map(defined.search, sources)), f"`{modules}{name}`: no such name"
        inside = re.compile(rf"^    (?:(?:async )?def {member}\b|{member}: )", re.MULTILINE)
        assert not member or any(map(inside.search, sources)), f"`{name}.{member}`: no such member"


def test_every_site_and_every_harness_has_its_row() -> None:
    for page, names in (
        ("sites.md", {file.parent.name for file in PROJECT.glob("profiles/sites/*/site.yaml")}),
        ("harnesses.md", get_args(Benchmark.model_fields["harness"].annotation)),
    ):
        rows = set(re.findall(r"^\| `([\w-]+)`", (PROJECT / "docs" / page).read_text(), re.MULTILINE))
        assert set(names) <= rows, f"docs/{page}: its table has no row for {sorted(set(names) - rows)}"


def test_pages_that_the_code_names_are_there() -> None:
    sources = [
        *PROJECT.glob("src/**/*.py"),
        *PROJECT.glob("config/**/*.yaml"),
        *PROJECT.glob("profiles/**/*.yaml"),
    ]
    found = [match for source in sources for match in NAMED_IN_CODE.findall(source.read_text())]
    assert len(found) > 20
    for name, anchor in found:
        page = PROJECT / "docs" / name
        assert page.exists(), f"docs/{name}: no such page"
        assert not anchor or anchor in anchors(page), f"docs/{name}#{anchor}: no such heading"


def complete_configs() -> dict[str, str]:
    """Every whole config in a page's YAML blocks, by page and line."""
    found = {}
    for page in PAGES:
        for block in re.finditer(
            r"^```yaml\n(version: .*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL
        ):
            line = page.read_text()[: block.start()].count("\n") + 1
            found[f"{named(page)}:{line}"] = block[1]
    return found


@pytest.mark.parametrize("where", complete_configs())
def test_complete_configs_are_accepted(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = complete_configs()[where]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "containers").symlink_to(PROJECT / "containers")
    (tmp_path / "config.yaml").write_text(text)
    (tmp_path / "mine").mkdir()
    for file in OWN_FILE.finditer((PROJECT / "docs/own-benchmark.md").read_text()):
        (tmp_path / file[1]).write_text(file[2])
    load([tmp_path / "config.yaml"])


def test_readme_has_the_config_for_one_gpu_as_it_is() -> None:
    lines = (PROJECT / "config/one-gpu.yaml").read_text().splitlines(keepends=True)
    config = "".join(line for line in lines if not line.startswith("#"))
    assert f"```yaml\n{config}```\n" in (PROJECT / "README.md").read_text()
    assert len(config.splitlines()) <= 20


def test_every_page_is_in_the_navigation_once() -> None:
    class Loader(yaml.SafeLoader):
        """The config of MkDocs without its Python objects."""

    Loader.add_multi_constructor("tag:yaml.org,2002:python/name:", lambda _loader, name, _node: name)
    navigation = yaml.load((PROJECT / "mkdocs.yml").read_text(), Loader)["nav"]
    listed = [page for section in navigation for pages in section.values() for page in pages]
    assert sorted(listed) == sorted(page.name for page in (PROJECT / "docs").glob("*.md"))
    assert [next(iter(section)) for section in navigation] == [
        *("Start", "Run", "Cluster", "Results", "Extend", "Reference", "Develop")
    ]


def test_layers_are_those_of_the_imports() -> None:
    section = (PROJECT / "docs/develop.md").read_text().partition("## The layers of")[2].partition("\n## ")[0]
    rows = re.findall(r"^[|] (`.*`) [|]", section, re.MULTILINE)
    listed = [re.findall(r"`(\w+)`", row) for row in rows]
    assert [name for names in listed for name in names] == [name for names in LAYERS for name in names]

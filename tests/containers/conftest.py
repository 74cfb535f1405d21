"""Containers for real: Apptainer, a registry under the name nvcr.io, a Hugging Face hub, and a cluster whose
nodes reach neither."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.project import OnlineProject
from tests.internet import Internet, services
from tests.internet import apptainer as apptainer_here
from tests.internet.hub import Hub
from tests.internet.registry import Registry
from tests.internet.services import Published
from tests.lacking import lacking
from tests.serving.conftest import vllm_python
from tests.slurm.cluster import Cluster, ClusterError, requirements

__all__ = ["vllm_python"]  # a fixture


@pytest.fixture(scope="session")
def internet() -> Iterator[Internet]:
    """A network that only this machine reaches, empty at first. `internet.online` is the command that runs
    others there."""
    try:
        requirements.check()
    except ClusterError as error:
        lacking(str(error))
    # Not pytest's folder: other users cannot go there
    made = Internet.up(Path(tempfile.mkdtemp(prefix="slurmeval-internet-")))
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="session")
def apptainer() -> Path:
    """The program. It runs here and on the cluster's nodes."""
    try:
        requirements.check()
        return apptainer_here.ensure()
    except ClusterError as error:
        lacking(str(error))


@pytest.fixture
def online_apptainer(apptainer: Path, internet: Internet, tmp_path: Path) -> Path:
    """The program, online, with a cache of this test's own. Images are packed fast rather than small."""
    cache, scratch = tmp_path / "apptainer-cache", tmp_path / "apptainer-tmp"
    scratch.mkdir()
    places = {"APPTAINER_CACHEDIR": str(cache), "APPTAINER_TMPDIR": str(scratch)}
    return internet.program(apptainer, **places)


@pytest.fixture(scope="session")
def _registry(internet: Internet) -> Registry:
    return Registry.up(internet)


@pytest.fixture
def registry(_registry: Registry, internet: Internet) -> Iterator[Registry]:
    """The registry at nvcr.io. Its faults, and the network's, are mended after each test."""
    yield _registry
    internet.restore()
    _registry.restore()


@pytest.fixture(scope="session")
def harness_images(_registry: Registry) -> dict[str, Published]:
    """The images of two harnesses, by id, in the registry. Do not publish others under their tags."""
    return services.publish_harnesses(_registry)


@pytest.fixture
def tiny_image(registry: Registry) -> Published:
    """A small image with a `nemo-evaluator` that only lists, in the registry. A test may publish others."""
    return services.publish_tiny(registry)


@pytest.fixture(scope="session")
def _hub(internet: Internet) -> Iterator[Hub]:
    with Hub(internet) as running:
        running.add_datasets()
        yield running


@pytest.fixture
def hub(_hub: Hub, internet: Internet) -> Iterator[Hub]:
    """The hub, with data sets. Its faults, and the network's, are mended after each test; what a test adds
    stays, so it takes a name of its own."""
    yield _hub
    internet.restore()
    _hub.restore()


@pytest.fixture(scope="session")
def hub_model(_hub: Hub, vllm_python: Path) -> tuple[str, str]:
    """Name and commit of a real small model on the hub."""
    from tests.internet.hub import MODEL

    return MODEL, _hub.add_model(vllm_python)


@pytest.fixture
def run_online(internet: Internet) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command for which the internet is there; its standard output has its errors too."""

    def run(*argv: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        defaults = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 240}
        command = [str(internet.online), *map(str, argv)]
        return subprocess.run(command, check=False, **{**defaults, **options})

    return run


@pytest.fixture
def make_online_project(
    cluster: Cluster, internet: Internet, apptainer: Path, registry: Registry, hub: Hub, projects_folder: Path
) -> Iterator[Callable[[str], OnlineProject]]:
    """Makes project folders that every host sees, whose controller is online."""
    made: list[OnlineProject] = []

    def make(name: str) -> OnlineProject:
        made.append(OnlineProject(projects_folder / name, cluster, internet, apptainer))
        return made[-1]

    yield make
    for project in made:
        project.end()


@pytest.fixture
def online_project(make_online_project: Callable[[str], OnlineProject]) -> OnlineProject:
    return make_online_project("project with 'quotes'")


@pytest.fixture(autouse=True)
def _idle(idle_in_the_end: None) -> None:
    """Every test here leaves the cluster as it was."""

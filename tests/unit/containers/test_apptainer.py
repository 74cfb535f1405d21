"""How containers are started: the command lines and variables, without starting one."""

from __future__ import annotations

import csv
import subprocess
from pathlib import Path

import pytest

from slurmeval.config.site import Containers
from slurmeval.containers.apptainer import Apptainer, Bind, with_targets
from slurmeval.errors import UserError


def program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("there", "found"), [(["singularity"], "singularity"), (["singularity", "apptainer"], "apptainer")]
)
def test_whichever_program_is_there(
    there: list[str], found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in there:
        program(tmp_path, name)
    monkeypatch.setenv("PATH", str(tmp_path))
    apptainer = Apptainer.find()
    assert apptainer.program == found
    assert apptainer.argv("version") == [str(tmp_path / found), "version"]


def test_neither_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"neither apptainer nor singularity is on PATH: .*runtime: environment"
    ):
        Apptainer.find()
    with pytest.raises(UserError, match=r"containers\.program: /no/such cannot be run here"):
        Apptainer.find(Containers(program="/no/such"))


def test_a_module_brings_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the module is loaded there is none, and that is no error."""
    program(tmp_path, "apptainer").write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    apptainer = Apptainer.find(Containers(setup=[f"export PATH='{tmp_path}':$PATH"]))

    said = subprocess.run(apptainer.argv("exec", "a b", "$c"), capture_output=True, text=True, check=True)
    assert said.stdout == "exec|a b|$c|"


def flags(*arguments: object, **named: object) -> list[str]:
    return Apptainer("apptainer", gpu="--rocm", binds=("/data:/d:ro",)).exec_argv(*arguments, **named)  # type: ignore[arg-type]


def test_a_command_is_contained() -> None:
    argv = flags(Path("/x.sif"), ["run", "--flag"])
    assert argv[-3:] == ["/x.sif", "run", "--flag"]
    assert {"exec", "--containall", "--no-home"} <= set(argv)
    assert "--rocm" not in argv
    assert "--net" not in argv
    assert argv[argv.index("--bind") + 1] == "/data:/d:ro"


def test_network_gpu_and_home_are_asked_for() -> None:
    argv = flags(
        Path("/x.sif"), ["run"], gpu=True, network=False, home=Path("/h"), scratch=Path("/s"), cwd=Path("/w")
    )
    assert argv[argv.index("--network") + 1] == "none"
    assert "--rocm" in argv
    assert "--no-home" not in argv
    assert argv[argv.index("--home") + 1] == "/h:/h"
    assert argv[argv.index("--workdir") + 1] == "/s"
    assert argv[argv.index("--pwd") + 1] == "/w"


def test_names_of_folders_may_hold_anything() -> None:
    odd = Path("/a, b:c/\"d'")
    (flag,) = (text for text in Bind(odd).flags() if text != "--mount")
    assert next(csv.reader([flag])) == ["type=bind", f"source={odd}", f"destination={odd}", "ro"]
    assert "ro" not in Bind(odd, writable=True).flags()[1]


def test_variables_reach_the_container_and_no_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("APPTAINERENV_LEAK", "SINGULARITY_BINDPATH", "APPTAINER_BIND"):
        monkeypatch.setenv(name, "/home")
    monkeypatch.setenv("APPTAINER_CACHEDIR", "/cache")
    env = Apptainer("apptainer").environment({"KEY": "secret"})
    assert env["APPTAINERENV_KEY"] == "secret"
    assert env["APPTAINER_CACHEDIR"] == "/cache"
    assert not {"APPTAINERENV_LEAK", "SINGULARITY_BINDPATH", "APPTAINER_BIND"} & set(env)
    assert "SINGULARITYENV_KEY" in Apptainer("/opt/bin/singularity").environment({"KEY": "secret"})


def test_links_out_of_a_folder_are_followed(tmp_path: Path) -> None:
    """As in the hub's cache: a snapshot is links to blobs."""
    blobs, snapshot = tmp_path / "repo" / "blobs", tmp_path / "repo" / "snapshots" / "c0ffee"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "1").write_text("weights")
    (snapshot / "model.safetensors").symlink_to("../../blobs/1")
    assert set(with_targets([snapshot])) == {snapshot, blobs}

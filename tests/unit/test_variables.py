"""What a user's shell and modules export reaches what slurmeval starts, or does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurmeval.cli import machine
from slurmeval.variables import OWN_PYTHON_LINE, certificates, checked, isolate_python, proxies


@pytest.fixture
def shadow(tmp_path: Path) -> Path:
    """A folder of a module with a package that would break slurmeval."""
    (tmp_path / "pydantic").mkdir()
    (tmp_path / "pydantic" / "__init__.py").write_text("raise ImportError('a foreign pydantic')\n")
    return tmp_path


def test_variables_of_another_python_are_taken_out() -> None:
    environment = {"PYTHONPATH": "/x", "PYTHONHOME": "/y", "PYTHONOPTIMIZE": "2", "PATH": "/bin"}
    isolate_python(environment)
    assert environment == {"PATH": "/bin", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}


@pytest.mark.parametrize("given", [{}, {"PYTHONPATH": "/x", "PYTHONWARNINGS": "error"}])
def test_line_of_a_job_takes_out_what_its_setup_lines_set(given: dict[str, str]) -> None:
    script = f"set -euo pipefail; {OWN_PYTHON_LINE}; env"
    ran = subprocess.run(["bash", "-c", script], env={"PATH": "/usr/bin:/bin", **given}, capture_output=True)
    names = {line.partition("=")[0] for line in ran.stdout.decode().splitlines()}
    assert {name for name in names if name.startswith("PYTHON")} == {"PYTHONUTF8", "PYTHONNOUSERSITE"}


def run(code: str, *flags: str, shadow: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(shadow)}
    argv = [sys.executable, *flags, "-c", code]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)


def test_packages_of_pythonpath_come_after_those_of_the_environment(shadow: Path) -> None:
    ran = run("import pydantic, slurmeval.config.load; print(pydantic.__file__)", shadow=shadow)
    assert ran.returncode == 0, ran.stderr
    assert str(shadow) not in ran.stdout


def test_caches_lie_in_the_project_folder_unless_a_variable_says_otherwise() -> None:
    code = "import os; print(os.environ['XDG_CACHE_HOME'])"
    environment = {"HOME": "/sys"}  # it cannot be written
    for given, found in (({}, f"{Path(sys.prefix).parent}/.cache"), ({"XDG_CACHE_HOME": "/x"}, "/x")):
        ran = subprocess.run([sys.executable, "-c", code], env=environment | given, capture_output=True)
        assert ran.stdout.decode().strip() == found


def test_what_a_locale_does_not_know_is_printed_all_the_same() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1"}
    ran = subprocess.run(
        [sys.executable, "-c", "print('Größe … 東京')"], env=environment, capture_output=True
    )
    assert (ran.returncode, ran.stdout.decode("iso-8859-1")) == (0, "Größe ? ??\n")


def test_package_of_pythonpath_that_comes_first_is_one_line_not_a_traceback(shadow: Path) -> None:
    first = f"import sys; sys.path.insert(0, {str(shadow)!r})"
    ran = run(f"{first}; from slurmeval.cli.main import run; sys.exit(run(['check']))", shadow=shadow)
    assert ran.returncode == 2
    assert ran.stderr == (
        f"slurmeval: a foreign pydantic: PYTHONPATH puts {shadow} before slurmeval's own packages: unset it\n"
    )


def test_doctor_names_a_pythonpath_that_comes_first(shadow: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"PYTHONPATH": str(shadow)}
    assert machine.python_path(environment).level == "ok"
    monkeypatch.syspath_prepend(shadow)
    check = machine.python_path(environment)
    assert (check.level, check.found) == ("warn", f"PYTHONPATH is {shadow}")


def test_doctor_names_a_pythonhome() -> None:
    check = machine.python_path({"PYTHONHOME": "/sw/python"})
    assert (check.level, check.found) == ("warn", "PYTHONHOME is /sw/python")


def test_proxies_are_not_asked_for_this_machine() -> None:
    given = {"https_proxy": "http://p:3128", "ALL_PROXY": "socks5://p", "no_proxy": ".uni.example, 10.0.0.1"}
    straight = ".uni.example,10.0.0.1,127.0.0.1,localhost"
    assert proxies(given) == {
        "https_proxy": "http://p:3128",
        "ALL_PROXY": "socks5://p",
        "no_proxy": straight,
        "NO_PROXY": straight,
    }
    assert proxies({"http_proxy": "http://p", "NO_PROXY": "*"})["no_proxy"] == "*"


def test_certificates_that_are_not_on_this_machine_are_not_named(tmp_path: Path) -> None:
    there = tmp_path / "ca.pem"
    there.touch()
    given = {"SSL_CERT_FILE": "/opt/conda/ssl/cacert.pem", "REQUESTS_CA_BUNDLE": str(there)}
    assert certificates(given) == {"REQUESTS_CA_BUNDLE": str(there)}


@pytest.mark.parametrize(
    ("setup", "status", "said"),
    [
        (
            ["module load 'CUDA/99'", "true"],
            127,
            "a line of setup in site.yaml failed: module load 'CUDA/99'",
        ),
        (["true", "cd /\nfalse\ntrue"], 1, "a line of setup in site.yaml failed: false"),
        (["false || true", "[ a = b ] && false", "f() { false; true; }", "f"], 0, ""),
        (["exit 3"], 3, ""),
        (
            [
                "for n in 1 2",
                "do",
                "true # fine",
                "done",
                "if false",
                "then exit 9",
                "fi",
                "[ a = b ] || true",
            ],
            0,
            "",
        ),
        ([], 0, ""),
    ],
)
def test_setup_line_that_fails_stops_the_job_and_is_named(setup: list[str], status: int, said: str) -> None:
    script = "\n".join([*checked(setup), "echo goes on"])
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert ran.returncode == status
    assert ran.stdout == ("" if status else "goes on\n")
    assert said in ran.stderr


def test_what_fails_within_a_file_that_setup_sources_is_that_files_affair(tmp_path: Path) -> None:
    (tmp_path / "modules.sh").write_text("false\nexport A=b\n")
    (tmp_path / "broken.sh").write_text("false\n")
    script = "\n".join(
        [*checked([f"source {tmp_path}/modules.sh"]), "echo $A", f". {tmp_path}/broken.sh; true"]
    )
    assert subprocess.run(["bash", "-c", script], capture_output=True, text=True).stdout == "b\n"
    script = "\n".join([*checked([f"source {tmp_path}/broken.sh"]), "echo $A"])
    ran = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"failed: source {tmp_path}/broken.sh" in ran.stderr

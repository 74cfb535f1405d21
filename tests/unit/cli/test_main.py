"""The program itself: help, exit statuses, one line for what is wrong, and starting fast."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from slurmeval import __version__
from slurmeval.cli import main
from slurmeval.errors import ErrorClass, EvaluationFailed, SlurmevalError, UserError
from slurmeval.files import write_json
from slurmeval.paths import Paths
from slurmeval.state.records import write
from tests.run_documents import benchmark_entry, model_entry, run_document
from tests.waiting import wait_for

SLURMEVAL = [sys.executable, "-m", "slurmeval"]
COMMANDS = {**main.FOR_PEOPLE, **main.FOR_RULES}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command_and_what_it_does(arguments: list[str]) -> None:
    shown = subprocess.run([*SLURMEVAL, *arguments], capture_output=True, text=True, check=True).stdout
    for name, (_, line) in COMMANDS.items():
        assert name in shown and line in shown
    assert "Commands the workflow runs:" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: slurmeval {name} ")


@pytest.mark.parametrize("name", COMMANDS)
def test_line_in_the_list_is_the_commands_own(name: str) -> None:
    command = main.commands.get_command(click.Context(main.commands), name)
    assert command is not None and command.help is not None
    assert " ".join(command.help.split()).startswith(COMMANDS[name][1].rstrip("."))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"slurmeval {__version__}\n"


@pytest.mark.parametrize("command", ["show", "status", "runs", "export", "stop"])
def test_a_path_that_no_file_system_takes_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    more = ["--to", "csv"] if command == "export" else []
    assert main.run([command, *more, "--results", f"{tmp_path}/{'x' * 300}"]) == 1
    assert capsys.readouterr().err.endswith("File name too long\n")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE])
def test_file_system_that_is_full_or_away_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    @click.command()
    def check() -> None:
        write_json(tmp_path / "table.json", {})

    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(main.commands, "get_command", lambda *_: check)
    assert main.run(["check"]) == 1
    assert capsys.readouterr().err == f"slurmeval: {tmp_path}/table.json: {os.strerror(code)}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["stauts"], "slurmeval: No such command 'stauts'."),
        (["status", "--wach"], "slurmeval: No such option"),
        (["status", "--watch", "--json"], "slurmeval: --watch and --json do not go together"),
        (["lease"], "slurmeval: Missing argument 'RUN_FILE'."),
        (["stop", "--timeout-s", "-1"], "slurmeval: Invalid value for '--timeout-s'"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(line) and shown.err.count("\n") == 1


@pytest.fixture
def command_that(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException | int], None]:
    """Adds a command `try-it` that raises or returns what it is given."""

    def add(outcome: BaseException | int) -> None:
        @click.command("try-it")
        def try_it() -> int:
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome

        module = types.ModuleType("slurmeval_try_it")
        module.try_it = try_it  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(main.FOR_PEOPLE, "try-it", (module.__name__, "Tries."))

    return add


@pytest.mark.parametrize(
    ("outcome", "status", "line"),
    [
        (UserError("bad\nthing"), 2, "slurmeval: bad thing\n"),
        (SlurmevalError("it failed"), 1, "slurmeval: it failed\n"),
        (EvaluationFailed(ErrorClass.TIME_LIMIT, "too slow"), 1, "slurmeval: too slow\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (3, 3, ""),
        (0, 0, ""),
    ],
)
def test_outcome_becomes_a_status_and_a_line(
    command_that: Callable[[BaseException | int], None],
    outcome: BaseException | int,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command_that(outcome)
    assert main.run(["try-it"]) == status
    assert capsys.readouterr().err == line


def test_failure_that_was_not_foreseen_is_not_hidden(
    command_that: Callable[[BaseException | int], None],
) -> None:
    command_that(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main.run(["try-it"])


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("", True)])
def test_no_color_is_heeded_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str, coloured: bool
) -> None:
    @click.command()
    def check() -> None:
        click.echo(click.style("well", fg="green"))

    monkeypatch.setenv("NO_COLOR", value)
    monkeypatch.setattr(main.commands, "get_command", lambda *_: check)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda _, color: color is False)
    assert main.run(["check"]) == 0
    assert ("\x1b" in capsys.readouterr().out) == coloured


def test_nobody_reading_is_quiet(tmp_path: Path) -> None:
    """As in `slurmeval status --json | head -1`."""
    paths = Paths.of_results(tmp_path)
    benchmarks = {f"benchmark-{number}": benchmark_entry() for number in range(5000)}
    document = run_document(paths, {"model": model_entry(paths, "model")}, benchmarks)
    write(paths.state / "runs" / "a.json", document)
    for arguments in (["--version"], ["status", "--json", "--results", str(tmp_path)]):
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run([*SLURMEVAL, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert ran.stderr == b""


def test_ctrl_c_ends_stop_with_130(tmp_path: Path) -> None:
    """While it waits for a server of another host that does not answer."""
    folder = tmp_path / "state" / "servers" / "tiny" / "0001"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"status": "ready"}))
    process = subprocess.Popen(
        [*SLURMEVAL, "stop", "--results", str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    wait_for((folder / "stop").exists, "the request to stop")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.strip() == b""


HEAVY = ("pydantic", "yaml", "rich", "pyarrow", "pandas", "submitit", "aiohttp", "numpy", "asyncio")


@pytest.mark.parametrize("arguments", [["--help"], ["lease", "--help"], ["evaluate", "--help"]])
def test_nothing_heavy_is_imported_to_start(arguments: list[str]) -> None:
    program = f"import sys; from slurmeval.cli.main import run; run({arguments!r}); print(*sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout
    assert not set(HEAVY) & set(printed.splitlines()[-1].split())

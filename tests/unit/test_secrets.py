"""Secrets reach the jobs that need them, and nobody else; what is wrong with them is said without a value."""

from __future__ import annotations

import base64
import gzip
import json
import os
import stat
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.config.messages import dotted
from slurmeval.config.models import Config
from slurmeval.errors import SlurmevalError, UserError
from slurmeval.files import write_json
from slurmeval.ownership import LockFile
from slurmeval.paths import Paths
from slurmeval.secrets import (
    HUB,
    REGISTRY,
    hand_out,
    lend,
    make_private,
    needed,
    problems,
    scrub,
    take,
    values,
    withdraw_unused,
)
from tests.planted import Planted, Watch
from tests.waiting import wait_for

KEY = "sk-judge-1234567890"
TOKEN = "hf_0123456789abcdef"


def config_with(secrets: dict[str, Any], judged: list[str]) -> Config:
    """Two benchmarks: `judged` names secrets, `plain` none."""
    entry = {"harness": "lm-eval", "task": "arc"}
    return Config.model_validate(
        {
            "version": 1,
            "models": {"m": {"weights": {"folder": "weights"}, "server": "s"}},
            "servers": {"s": {}},
            "benchmarks": {"judged": {**entry, "secrets": judged}, "plain": entry},
            "suites": {"all": ["judged", "plain"]},
            "evaluate": {"suites": ["all"]},
            "secrets": secrets,
        }
    )


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(f"{KEY}\n")
    return file


def said(config: Config, project: Path, environment: dict[str, str] | None = None) -> list[str]:
    found = problems(config, project, needed(config, ["judged", "plain"]), environment or {})
    return [f"{dotted(problem.key)}: {problem.text}" for problem in found]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_needed_are_those_of_the_planned_benchmarks_and_those_for_staging() -> None:
    every = {name: {} for name in ("HF_TOKEN", "JUDGE_KEY", "APPTAINER_DOCKER_PASSWORD", "OTHER_KEY")}
    config = config_with(every, ["JUDGE_KEY"])
    assert needed(config, ["judged"]) == ["HF_TOKEN", "APPTAINER_DOCKER_PASSWORD", "JUDGE_KEY"]
    assert needed(config, ["plain"]) == ["HF_TOKEN", "APPTAINER_DOCKER_PASSWORD"]
    assert needed(config_with({"JUDGE_KEY": {}}, ["JUDGE_KEY"]), ["plain"]) == []


def test_keys_of_servers_are_needed_where_their_models_are_evaluated() -> None:
    content = config_with({"API_KEY": {}}, []).model_dump(mode="json", exclude_unset=True)
    content["servers"]["api"] = {"url": "https://api.example.org/v1", "api_key": "API_KEY"}
    content["models"]["far"] = {"server": "api"}
    assert needed(Config.model_validate(content), ["plain"]) == ["API_KEY"]
    content["evaluate"]["models"] = ["m"]
    assert needed(Config.model_validate(content), ["plain"]) == []


@pytest.mark.parametrize(
    ("content", "bits", "text"),
    [
        (KEY, 0o644, "is open to others (mode 0644): chmod 600"),
        (KEY, 0o640, "is open to its group (mode 0640): chmod 600"),
        ("", 0o600, "is empty"),
        (" \n", 0o600, "is empty"),
        (f"{KEY}\nmore", 0o600, "has 2 lines; expected the secret alone"),
        (f"{KEY}\x1b[0m", 0o600, "holds characters that cannot be printed"),
        (KEY * 4000, 0o600, "has 76000 bytes; expected the secret alone"),
    ],
)
def test_file_that_is_no_secret_is_refused_in_one_line(
    tmp_path: Path, key_file: Path, content: str, bits: int, text: str
) -> None:
    key_file.write_text(content)
    key_file.chmod(bits)
    config = config_with({"JUDGE_KEY": {"file": "key"}}, ["JUDGE_KEY"])
    assert said(config, tmp_path) == [f"secrets.JUDGE_KEY.file: 'key' {text}"]
    with pytest.raises(UserError) as error:
        hand_out(config, tmp_path, ["judged"], tmp_path / "state", {})
    assert str(error.value) == f"secrets.JUDGE_KEY.file: 'key' {text}"
    assert not (tmp_path / "state").exists()


def test_missing_files_folders_and_strange_bytes_are_refused(tmp_path: Path, key_file: Path) -> None:
    key_file.write_bytes(b"\xff\xfe" + KEY.encode())
    named = {"A": "none", "B": ".", "C": "key", "D": "~nobody-of-this-name/key"}
    config = config_with({name: {"file": file} for name, file in named.items()}, list(named))
    assert said(config, tmp_path) == [
        "secrets.A.file: 'none' cannot be read: No such file or directory",
        "secrets.B.file: '.' is no file",
        "secrets.C.file: 'key' is no text",
        "secrets.D.file: '~nobody-of-this-name/key' Could not determine home directory.",
    ]


def test_variable_that_is_not_set_is_named_and_others_values_are_not_told(tmp_path: Path) -> None:
    config = config_with({"JUDGE_KEY": {}, "OTHER_KEY": {}}, ["JUDGE_KEY", "OTHER_KEY"])
    lines = said(config, tmp_path, {"JUDGE_KEY": " ", "OTHER_KEY": f"{KEY}\n{KEY}"})
    assert lines == [
        "secrets.JUDGE_KEY: the variable JUDGE_KEY is not set: "
        "export it where Snakemake is started, or name a file (file: …)",
        "secrets.OTHER_KEY: the variable OTHER_KEY has 2 lines; expected the secret alone",
    ]
    assert not any(KEY in line for line in lines)


def test_handed_out_for_its_owner_alone_whatever_the_umask_and_taken_by_name(
    tmp_path: Path, key_file: Path
) -> None:
    config = config_with({"JUDGE_KEY": {"file": str(key_file)}, "HF_TOKEN": {}}, ["JUDGE_KEY"])
    environment = {"HF_TOKEN": TOKEN, "JUDGE_KEY": "of the shell", "HOME": "/home"}
    folder = tmp_path / "results" / "state" / "secrets"
    before = os.umask(0)
    try:
        hand_out(config, tmp_path, ["judged", "plain"], folder, environment)
    finally:
        os.umask(before)
    assert environment == {"HOME": "/home"}, "what the controller starts would inherit a secret"
    assert mode(folder) == 0o700
    assert {file.name: mode(file) for file in folder.iterdir()} == {"HF_TOKEN": 0o600, "JUDGE_KEY": 0o600}
    assert take(folder, ["JUDGE_KEY"]) == {"JUDGE_KEY": KEY}
    assert take(folder, ["HF_TOKEN"]) == {"HF_TOKEN": TOKEN}
    assert take(folder, []) == {}


def test_staging_gets_what_the_config_lists_of_what_it_takes(tmp_path: Path) -> None:
    config = config_with({"HF_TOKEN": {}, "JUDGE_KEY": {}}, ["JUDGE_KEY"])
    hand_out(config, tmp_path, ["judged"], tmp_path / "secrets", {"HF_TOKEN": TOKEN, "JUDGE_KEY": KEY})
    environment = {"HOME": "/home"}
    lend(tmp_path / "secrets", config.secrets, HUB, environment)
    lend(tmp_path / "secrets", config.secrets, REGISTRY, environment)
    assert environment == {"HOME": "/home", "HF_TOKEN": TOKEN}


def test_commands_outside_a_run_read_them_where_they_are(tmp_path: Path, key_file: Path) -> None:
    config = config_with({"HF_TOKEN": {"file": "key"}, "OTHER": {}}, [])
    assert values(config, tmp_path, ["HF_TOKEN"], {"HF_TOKEN": TOKEN}) == {"HF_TOKEN": KEY}
    with pytest.raises(UserError, match=r"secrets\.OTHER: the variable OTHER is not set"):
        values(config, tmp_path, ["OTHER"], {})


def test_new_value_replaces_the_old_one(tmp_path: Path) -> None:
    config = config_with({"JUDGE_KEY": {}}, ["JUDGE_KEY"])
    for value in (KEY, f"{KEY}-new"):
        hand_out(config, tmp_path, ["judged"], tmp_path / "secrets", {"JUDGE_KEY": value})
        assert take(tmp_path / "secrets", ["JUDGE_KEY"]) == {"JUDGE_KEY": value}


def test_nothing_is_written_where_nothing_is_needed(tmp_path: Path) -> None:
    environment = {"JUDGE_KEY": KEY}
    hand_out(
        config_with({"JUDGE_KEY": {}}, ["JUDGE_KEY"]), tmp_path, ["plain"], tmp_path / "secrets", environment
    )
    assert not (tmp_path / "secrets").exists()
    assert environment == {}


def test_taking_what_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SlurmevalError, match=r"the secret JUDGE_KEY is not in .*: .* start it again"):
        take(tmp_path, ["JUDGE_KEY"])


def test_open_folder_is_closed_and_a_planted_link_is_refused(tmp_path: Path) -> None:
    there = tmp_path / "open"
    there.mkdir(mode=0o755)
    make_private(there)
    assert mode(there) == 0o700
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    link = tmp_path / "link"
    link.symlink_to(elsewhere)
    with pytest.raises(UserError, match="is no folder of yours"):
        make_private(link)
    assert mode(elsewhere) == 0o755


@pytest.fixture
def handed_out(tmp_path: Path) -> tuple[Paths, Path]:
    paths = Paths.of({field.name: str(tmp_path / field.name) for field in fields(Paths)})
    folder = paths.secrets
    hand_out(config_with({"HF_TOKEN": {}}, []), tmp_path, [], folder, {"HF_TOKEN": TOKEN})
    return paths, folder


def test_withdrawn_at_the_end_of_the_run(handed_out: tuple[Paths, Path]) -> None:
    paths, folder = handed_out
    lock_file = LockFile(paths.controller)
    assert lock_file.take() is None
    withdraw_unused(paths)
    assert not folder.exists()
    withdraw_unused(paths)
    lock_file.release()


def test_stays_while_an_evaluation_goes_on(handed_out: tuple[Paths, Path]) -> None:
    paths, folder = handed_out
    write_json(paths.lease("m", "judged"), {})
    withdraw_unused(paths)
    assert take(folder, ["HF_TOKEN"]) == {"HF_TOKEN": TOKEN}


def test_stays_while_another_run_is_under_way_and_goes_when_that_is_dead(
    handed_out: tuple[Paths, Path],
) -> None:
    paths, folder = handed_out
    code = (
        "import sys; from pathlib import Path; from slurmeval.ownership import LockFile\n"
        "LockFile(Path(sys.argv[1])).take(); print(flush=True); input()"
    )
    argv = [sys.executable, "-c", code, str(paths.controller)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        withdraw_unused(paths)
        assert folder.exists()
        other.kill()
    withdraw_unused(paths)
    assert not folder.exists()


def test_scrubbing_leaves_no_form_of_a_secret_and_all_else(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    key = 'k/+&"' + KEY
    log = work / "harness.log"
    basic = base64.b64encode(f"user:{key}".encode()).decode()
    forms = [key, quote(key), quote(key, safe=""), json.dumps(key), basic]
    log.write_text("\n".join(f"{number} before {form} after" for number, form in enumerate(forms)))
    size = log.stat().st_size
    blob = work / "deep" / "cache.sqlite"
    blob.write_bytes(b"\0\xff" + key.encode() + b"\xfe\0" + key.encode())
    blob.chmod(0o400)
    clean = work / "clean.json"
    clean.write_text("{}")
    clean.chmod(0o444)
    (work / "empty").touch()
    outside = tmp_path / "outside"
    outside.write_text(key)
    (work / "link").symlink_to(outside)
    assert sorted(scrub(work, {"JUDGE_KEY": key})) == [blob, log]
    assert Planted({"JUDGE_KEY": key}).found_below([work]) == []
    assert blob.read_bytes() == b"\0\xff" + b"*" * len(key) + b"\xfe\0" + b"*" * len(key)
    assert log.stat().st_size == size
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["0", "1", "2", "3", "4"]
    assert log.read_text().count(" after") == 5
    assert mode(clean) == 0o444
    assert outside.read_text() == key
    assert scrub(outside, {"JUDGE_KEY": key}) == [outside]
    assert outside.read_text() == "*" * len(key)


def test_short_secrets_are_not_scrubbed_since_they_may_be_any_word(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a test of all tests")
    assert scrub(tmp_path, {"USER": "test"}) == []
    assert (tmp_path / "log").read_text() == "a test of all tests"


# The test's own helper


@pytest.mark.parametrize("name", ["HF_TOKEN", "JUDGE_API_KEY", "APPTAINER_DOCKER_PASSWORD"])
@pytest.mark.parametrize("how", ["raw", "quoted", "json", "base64", "basic", "gzip", "parquet", "file name"])
def test_planted_secrets_are_found_in_whatever_form(tmp_path: Path, name: str, how: str) -> None:
    planted = Planted.make()
    value = planted.values[name]
    file = tmp_path / "results" / "some.file"
    file.parent.mkdir()
    match how:
        case "raw":
            file.write_text(f"token={value}&more")
        case "quoted":
            file.write_text(quote(value, safe=""))
        case "json":
            file.write_text(json.dumps({"key": value}))
        case "base64":
            file.write_bytes(base64.b64encode(value.encode()))
        case "basic":
            file.write_bytes(base64.urlsafe_b64encode(f"someone:{value}".encode()))
        case "gzip":
            file.write_bytes(gzip.compress(b"so many words " + value.encode()))
        case "parquet":
            table = pa.table({"text": [None, f"said {value}"]})
            pq.write_table(table, file, compression="zstd")
        case "file name":
            (file.parent / quote(value, safe="")).touch()
    (hit,) = {line.rpartition(": ")[2].split()[0] for line in planted.found_below([tmp_path / "results"])}
    assert hit == name
    assert planted.found_below([tmp_path], allowed=[tmp_path / "results"]) == []


def test_planted_files_are_what_the_config_wants(tmp_path: Path) -> None:
    planted = Planted.make()
    config = config_with(planted.write(tmp_path / "keys"), ["JUDGE_API_KEY"])
    assert said(config, tmp_path) == []
    hand_out(config, tmp_path, ["judged"], tmp_path / "secrets", {})
    assert take(tmp_path / "secrets", planted.values) == planted.values
    assert len(planted.found_below([tmp_path])) >= 6
    assert planted.found_below([tmp_path], [tmp_path / "keys", tmp_path / "secrets"]) == []


def test_watch_sees_command_lines_and_who_has_a_secret_in_its_environment(tmp_path: Path) -> None:
    planted = Planted.make()
    code = "import sys; sys.stdin.read()"
    with Watch(planted) as watch:
        told = subprocess.Popen(
            [sys.executable, "-c", code, f"--token={planted.values['HF_TOKEN']}"], stdin=subprocess.PIPE
        )
        given = subprocess.Popen(
            [sys.executable, "-c", code, "the judged one"],
            stdin=subprocess.PIPE,
            env={**os.environ, "JUDGE_API_KEY": planted.values["JUDGE_API_KEY"]},
        )
        wait_for(lambda: watch.seen and watch.holders, "both to be seen")
        for process in (told, given):
            process.communicate()
    assert all(line.startswith("command line: HF_TOKEN as it is: ") for line in watch.seen)
    assert set(watch.holders) == {"JUDGE_API_KEY"}
    assert all("the judged one" in command for command in watch.holders["JUDGE_API_KEY"])
    assert watch.looks > 0


def test_watch_reads_what_scontrol_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = Planted.make()
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f"#!/bin/sh\necho 'JobId=7 Comment={planted.values['HF_TOKEN']}'\n")
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with Watch(planted) as watch:
        wait_for(lambda: watch.jobs, "a job to be looked at")
    assert "scontrol: HF_TOKEN as it is" in watch.seen

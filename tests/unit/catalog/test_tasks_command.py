"""`slurmeval tasks`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from slurmeval import catalog
from slurmeval.cli import main, tasks
from slurmeval.config.load import load
from slurmeval.harnesses import problems


class Asked:
    """Runs the command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        status = main.run(["tasks", *arguments])
        out, err = self._capsys.readouterr()
        return status, out, err

    def lines(self, *arguments: str) -> list[str]:
        status, out, err = self(*arguments)
        assert (status, err) == (0, "")
        return out.splitlines()

    def names(self, *arguments: str) -> list[str]:
        return [line.split()[0] for line in self.lines(*arguments)[:-1]]


@pytest.fixture
def asked(capsys: pytest.CaptureFixture[str]) -> Asked:
    return Asked(capsys)


def test_it_lists_421_tasks_of_23_harnesses(asked: Asked) -> None:
    lines = asked.lines()
    assert lines[-1] == "421 tasks of 23 harnesses"
    assert [line.split()[0] for line in lines[:-1]] == list(catalog.tasks())


def test_a_line_says_how_a_task_asks_and_what_it_needs(asked: Asked) -> None:
    lines = {line.split()[0]: line.split(maxsplit=3)[1:] for line in asked.lines()[:-1]}
    assert lines["lm-evaluation-harness.winogrande"] == ["completions", "reasoning", "logprobs"]
    assert lines["safety_eval.wildguard"] == ["chat", "safety", "judge, hf-token, image"]
    assert lines["helm.ehr_sql"] == ["chat", "medicine", "judge, code, image"]
    assert lines["ifbench.ifbench"] == ["chat", "instruction", "following  image"]
    assert lines["bfcl.bfclv3_ast"][-1].endswith("  calls")
    assert lines["lm-evaluation-harness.adlr_humaneval_greedy"][-1].endswith("code, image")


def test_what_needs_no_image_runs_in_an_environment(asked: Asked) -> None:
    images = {line.split()[0] for line in asked.lines("--needs", "image")[:-1]}
    here = {task.harness for name, task in catalog.tasks().items() if name not in images}
    assert here == {"bfcl", "lm-evaluation-harness"}
    (task,) = json.loads("\n".join(asked.lines("--json", "lm-evaluation-harness.ifeval")))
    assert task["runs_in"] == "environment"
    assert "    runtime: environment" in asked.lines("lm-evaluation-harness.ifeval")
    assert "    runtime: image" in asked.lines("ifbench.ifbench")


def test_all_words_must_fit(asked: Asked) -> None:
    assert "lm-evaluation-harness.gsm8k_cot_llama" in asked.names("GSM8K", "llama")
    assert "lm-evaluation-harness.gsm8k" not in asked.names("GSM8K", "llama")
    assert asked.names("leaderboard_") == [
        f"lm-evaluation-harness.{name}" for name in ("bbh", "musr", "gpqa")
    ]
    assert "nemo_skills.ns_ifeval" in asked.names("instruction following")


def test_the_name_of_a_harness_lists_its_tasks(asked: Asked) -> None:
    lines = asked.lines("bfcl")
    assert lines[-1] == "6 tasks of 1 harness"
    assert asked.lines("--harness", "bfcl") == lines
    assert asked.lines("mtbench")[-1] == "2 tasks of 1 harness"


def test_options_choose(asked: Asked) -> None:
    known = catalog.tasks()
    assert {known[name].group for name in asked.names("--group", "tool use")} == {"tool_use"}
    assert asked.names("--group", "tool-use") == asked.names("--group", "tool_use")
    assert len(asked.names("--endpoint", "embedding")) == 20
    assert "vlmevalkit.chartqa" in asked.names("--endpoint", "chat")
    assert (
        len(asked.names("--needs", "logprobs")) == sum(task.needs_logprobs for task in known.values()) == 81
    )
    assert "hle.hle" in asked.names("--needs", "judge")
    assert "hle.hle" in asked.names("--needs", "hf-token")
    assert all(known[name].needs == () for name in asked.names("--needs", "nothing"))
    code, no_code = asked.names("--code"), asked.names("--no-code")
    assert len(code) + len(no_code) == 421 and {"scicode.scicode", "bfcl.bfclv3"} <= set(code)
    assert asked.names("aime", "--needs", "nothing", "--harness", "simple_evals") == [
        "simple_evals.aime_2025_nemo",
        "simple_evals.aime_2024_nemo",
    ]


@pytest.mark.parametrize("name", ["simple_evals.simpleqa", "simpleqa"])
def test_one_exact_match_shows_everything(asked: Asked, name: str) -> None:
    status, out, _ = asked(name)
    assert status == 0
    entry = catalog.harnesses()["simple_evals"]
    for text in ("another model", "knowledge", entry.reference, entry.digest):
        assert text in out
    assert "    task: simple_evals.simpleqa\n" in out


def test_an_ambiguous_name_lists_the_candidates(asked: Asked) -> None:
    assert asked.names("gpqa_diamond")[-1] == "codec.gpqa_diamond"
    assert len(asked.names("gpqa_diamond")) > 2


def test_gated_data_name_the_page(asked: Asked) -> None:
    _, out, _ = asked("lm-evaluation-harness.gpqa_diamond_cot")
    assert "https://huggingface.co/datasets/Idavidrein/gpqa" in out


def test_what_cannot_be_served_has_no_snippet(asked: Asked) -> None:
    status, out, _ = asked("mteb.MTEB")
    assert status == 0 and "benchmarks:" not in out


def test_every_snippet_is_a_good_config(tmp_path: Path) -> None:
    (tmp_path / "containers" / "locks").mkdir(parents=True)
    (tmp_path / "containers" / "locks" / "vllm-cpu.lock").touch()
    (tmp_path / "weights").mkdir()
    merged: dict[str, dict[str, object]] = {"benchmarks": {}, "secrets": {}}
    for task in catalog.tasks().values():
        for section, entries in (yaml.safe_load("\n".join(tasks.snippet(task))) or {}).items():
            for key, entry in entries.items():
                # one config has each id once, and ids that differ in more than case
                merged[section][key if section == "secrets" else task.full_name] = entry
    assert len(merged["benchmarks"]) == 421 - 20
    config = {
        "version": 1,
        "models": {"tiny": {"weights": {"folder": "weights"}, "server": "cpu"}},
        "servers": {"cpu": {}},
        "suites": {"all": list(merged["benchmarks"])},
        "evaluate": {"suites": ["all"]},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config | merged))
    checked = load([tmp_path / "c.yaml"], project=tmp_path, check_benchmark=problems)
    for name, benchmark in checked.benchmarks.items():
        assert benchmark.task == name
        assert catalog.problems(benchmark.task, benchmark.endpoint) == []


def test_json_holds_all(asked: Asked) -> None:
    found = json.loads("\n".join(asked.lines("--json")))
    assert len(found) == 421
    by_name = {each["full_name"]: each for each in found}
    task = by_name["simple_evals.gpqa_diamond"]
    assert task["needs"] == ["hf-token"] and task["gated"] == "Idavidrein/gpqa"
    assert task["image"]["reference"] == "nvcr.io/nvidia/eval-factory/simple-evals:26.03"
    assert [each["full_name"] for each in json.loads("\n".join(asked.lines("--json", "simpleqa")))] == [
        "simple_evals.simpleqa"
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["ifevall"], 1, "no task fits 'ifevall'; did you mean 'ifeval'? 'slurmeval tasks' lists all"),
        (["qqqqq"], 1, "no task fits 'qqqqq'; 'slurmeval tasks' lists all"),
        (["bfcl", "--endpoint", "embedding"], 1, "no task fits; 'slurmeval tasks' lists all"),
        (["--harness", "bfkl"], 2, "--harness: unknown harness 'bfkl'; did you mean 'bfcl'?"),
        (["--needs", "gold"], 2, "'gold' is not one of"),
        (["--group", "math"], 2, "--group: unknown group 'math'; there are code, contamination,"),
    ],
)
def test_what_fits_nothing_is_one_line(asked: Asked, arguments: list[str], status: int, line: str) -> None:
    given, out, err = asked(*arguments)
    assert (given, out) == (status, "")
    assert line in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("width", [80, 100, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    known = catalog.catalog()
    lines = [click.unstyle(line) for line in tasks.table(list(known.tasks.values()), width)]
    assert max(map(len, lines)) <= width
    words = {line.split()[0] for line in lines if line}
    assert {f"{name}." for name in known.harnesses} <= words
    assert {task.name for task in known.tasks.values()} <= words, "no name is broken"
    text = " ".join(lines)
    assert all(
        f" {word}" in text for word in ("logprobs", "judge", "hf-token", "multilingual", "contamination")
    )


def test_it_loads_nothing_that_takes_long() -> None:
    code = (
        "import sys; from slurmeval.cli import main; status = main.run(['tasks']);"
        "print(*{name.partition('.')[0] for name in sys.modules}); sys.exit(status)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *listed, loaded = run.stdout.strip().split("\n")
    assert listed[-1] == "421 tasks of 23 harnesses"
    assert not set(loaded.split()) & {"pydantic", "numpy", "pyarrow", "pandas", "aiohttp", "snakemake"}

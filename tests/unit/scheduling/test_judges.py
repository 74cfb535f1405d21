"""Leases of judges: those of the judge's server, under a name of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.harnesses import stored_answers
from slurmeval.paths import Paths
from slurmeval.results import schema
from slurmeval.scheduling import finished
from slurmeval.scheduling.replicas import lease_files
from slurmeval.state.run_document import RunDocument
from tests.run_documents import benchmark_entry, config_for, model_entry, run_document


@pytest.fixture
def run(tmp_path: Path) -> RunDocument:
    paths = Paths.of_results(tmp_path)
    models = {
        "tiny": model_entry(paths, "tiny", answers_key="1" * 64),
        "wise": model_entry(paths, "wise", answers_key="2" * 64, replicas=2),
    }
    benchmarks = {
        "qa": benchmark_entry(requests_key="asked"),
        "judged": benchmark_entry(judge="wise", judges=True, requests_key="asked"),
        "jury": benchmark_entry(judges=True, asks_nobody=True),
    }
    judging = {"harness": "judge", "judging": {"of": "qa", "judge": "wise"}}
    jury = {"harness": "judge", "judging": {"jury": ["judged", "judged"]}}
    config = config_for(models, ["qa"]).model_dump(mode="json")
    config["benchmarks"] |= {"judged": judging, "jury": jury}
    return run_document(paths, models, benchmarks, config=config, evaluations=[("tiny", "judged")])


def answers(run: RunDocument, output: str, **more: Any) -> None:
    path = run.paths.samples("tiny", "qa")
    path.parent.mkdir(parents=True, exist_ok=True)
    row = {"model": "tiny", "benchmark": "qa", "sample_uid": "u", "repeat_idx": 0, "output": output, **more}
    pq.write_table(pa.Table.from_pylist([row], schema=schema.SAMPLES.schema), path)


def test_a_judge_is_leased_beside_its_own_evaluations(run: RunDocument) -> None:
    leases = run.paths.leases
    assert lease_files(run, "tiny", "judged") == [
        leases / "wise" / "judged~tiny.json",
        leases / "wise@2" / "judged~tiny.json",
    ]
    assert lease_files(run, "tiny", "qa") == [leases / "tiny" / "qa.json"]


def test_verdicts_are_stored_under_the_judge_they_are_of(run: RunDocument) -> None:
    assert run.work("tiny", "judged").name == "2" * 16
    assert run.work("tiny", "qa").name == "1" * 16
    assert run.lock_file("tiny", "judged").parent == run.work("tiny", "judged")


def test_a_judge_needs_no_server_again_until_an_answer_is_another(run: RunDocument) -> None:
    answers(run, "Paris")
    (run.work("tiny", "judged") / "gateway").mkdir(parents=True)
    (run.work("tiny", "judged") / "gateway" / "0001.jsonl").touch()
    assert not finished.all_answered(run, "tiny", "judged")
    finished.note_answered(run, "tiny", "judged")
    assert finished.all_answered(run, "tiny", "judged")
    answers(run, "Paris", status="unparsed", scores=[{"metric": "exact", "value": 0.0}])
    assert finished.all_answered(run, "tiny", "judged")
    answers(run, "Lyon")
    assert not finished.all_answered(run, "tiny", "judged")
    run.paths.samples("tiny", "qa").unlink()  # the run that makes them anew was killed
    assert not finished.all_answered(run, "tiny", "judged")


def test_a_jury_never_needs_a_server(run: RunDocument) -> None:
    assert finished.all_answered(run, "tiny", "jury")


def test_answers_are_read_only_where_an_earlier_end_is_compared_with_them(
    run: RunDocument, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(run, "Paris")
    read = list[Path]()
    monkeypatch.setattr(stored_answers, "answers_sha256", lambda path: str(read.append(path)))
    # the controller looks at each evaluation every few seconds
    assert not finished.is_there(run, "tiny", "judged")
    assert not finished.all_answered(run, "tiny", "judged")
    assert read == []
    finished.note_answered(run, "tiny", "judged")
    finished.all_answered(run, "tiny", "judged")
    assert read == [run.paths.samples("tiny", "qa")] * 2

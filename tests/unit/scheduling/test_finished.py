"""Results that an evaluation keeps for a run whose controller died."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurmeval.files import read_json
from slurmeval.scheduling import finished
from slurmeval.scheduling.leasing import lease_files, lease_for_rule
from tests.unit.scheduling.conftest import Run

PAIR = ("tiny", "first")
KINDS = ("metrics", "samples", "requests", "evaluation")


@pytest.fixture
def ended(run: Run) -> Run:
    """A run in which an evaluation has ended well."""
    for kind in KINDS:
        partition = getattr(run.paths, kind)(*PAIR)
        partition.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"row": [1, 2, 3]}), partition)
    run.document.lock_file(*PAIR).parent.mkdir(parents=True)
    finished.keep(run.document, *PAIR)
    return run


def test_what_snakemake_deleted_is_put_back(ended: Run) -> None:
    before = {kind: getattr(ended.paths, kind)(*PAIR).read_bytes() for kind in KINDS}
    for kind in KINDS:
        getattr(ended.paths, kind)(*PAIR).unlink()
    assert finished.is_there(ended.document, *PAIR)
    assert finished.publish(ended.document, *PAIR) == 3
    assert before == {kind: getattr(ended.paths, kind)(*PAIR).read_bytes() for kind in KINDS}
    finished.forget(ended.document, *PAIR)
    assert not finished.is_there(ended.document, *PAIR)
    assert ended.paths.metrics(*PAIR).exists()


def test_results_of_other_parameters_do_not_count(ended: Run) -> None:
    ended.alter_results("first")
    assert not finished.is_there(ended.document, *PAIR)


def test_half_of_it_does_not_count(ended: Run) -> None:
    (ended.document.lock_file(*PAIR).parent / "finished" / "samples.parquet").unlink()
    assert not finished.is_there(ended.document, *PAIR)


def test_the_rule_leases_no_server_for_it(ended: Run) -> None:
    lease_for_rule(ended.document, *PAIR)
    lease = read_json(lease_files(ended.document, *PAIR)[0])
    assert lease["released"] and lease["server"] is None
    assert not ended.server().path.exists()

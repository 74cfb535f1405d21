"""GenAI-Perf (nvidia-genai-perf-eval 26.3, genai-perf 0.0.9): how fast a server answers made-up prompts.

There are no questions and so no samples: results.yml has all that is kept of
`<model>_<endpoint>_<concurrency>_<input>_<output>_genai_perf.json` (its profile of single requests stays in
the folder `tmp` and is not read).
"""

from __future__ import annotations

from pathlib import Path

from slurmeval.harnesses.base import Job, Metric, Sample
from slurmeval.harnesses.nemo_readers.reading import no_proportion, one_file

_PRIMARY = "output_token_throughput"
_SPEEDS = ("request_throughput", "output_token_throughput", "output_token_throughput_per_request")
_LENGTHS = ("output_sequence_length", "input_sequence_length")


def read(job: Job, output: Path) -> list[Sample]:
    """Returns no samples.

    Raises:
        EvaluationFailed: There is not exactly one measurement (bad_result).
    """
    one_file(output, "*_genai_perf.json", "GenAI-Perf")
    return []


def metrics(rows: list[Metric], samples: list[Sample]) -> list[Metric]:
    """Returns the measurements: tokens per second over all requests lead.

    Speeds are per second, times in milliseconds, lengths in tokens: none is a proportion.
    """
    for row in rows:
        name, _, statistic = row.metric.partition("/")
        no_proportion(row)
        row.is_primary = (name, statistic) == (_PRIMARY, "avg")
        row.higher_is_better = None if name in _LENGTHS or statistic == "std" else name in _SPEEDS
    return rows

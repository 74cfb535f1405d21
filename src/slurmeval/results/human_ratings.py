"""The table `ratings`: what people said of stored answers (`slurmeval humans read`)."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from slurmeval.results.partitions import read_rows
from slurmeval.results.schema import Table

_TEXT, _INT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

RATINGS = Table(
    "ratings",
    "one value that one person gave one answer, or pair of answers",
    ("study", "model", "benchmark", "sample_uid", "repeat_idx", "rater", "dimension", "again"),
    (
        ("study", _TEXT, "", "The study's name."),
        ("model", _TEXT, "", "Whose answer; of a pair, the first model's."),
        ("against", _TEXT, "", "The other model of a pair; null: one answer was rated."),
        ("benchmark", _TEXT, "", "The benchmark's id in the config."),
        ("sample_uid", _TEXT, "", "The sample that was answered, as in `samples`."),
        ("repeat_idx", _INT, "", "Which answer to the question."),
        ("rater", _TEXT, "", "Who rated it."),
        ("dimension", _TEXT, "", "What was rated; of a pair `preference` and `confidence`."),
        ("value", _FLOAT, "", "A grade from 1 to 5; a preference for `model`: 1, 0.5 (a tie) or 0."),
        ("random", _FLAG, "", "Whether the sample was drawn at random."),
        ("probability", _FLOAT, "0–1", "With which it was drawn; null: not at random."),
        ("again", _FLAG, "", "Whether the rater saw it for the second time; counts for self-agreement only."),
        ("position", _INT, "", "Its place among the rater's items, from 0."),
        ("time_s", _FLOAT, "s", "How long it was on the screen; null: not known."),
        ("flags", pa.list_(_TEXT), "", "What the rater ticked."),
        ("comment", _TEXT, "", "What the rater wrote."),
    ),
)  # fmt: skip


def read_ratings(studies: Path) -> pa.Table:
    """Returns the ratings of all studies in a folder. Raises SchemaDrift on those of another version."""
    files = sorted(studies.glob(f"*/{RATINGS.name}.parquet"))
    return pa.concat_tables([RATINGS.schema.empty_table(), *(read_rows(file, RATINGS) for file in files)])

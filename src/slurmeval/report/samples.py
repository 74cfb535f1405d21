"""Pages that show samples: input, output, reference, scores and cost of each, some hundred to a page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from slurmeval.files import write_atomically
from slurmeval.report import rendering
from slurmeval.results import schema

if TYPE_CHECKING:
    from slurmeval.paths import Paths

# A page is made anew when its samples, its settings or what it is made with have changed.
_MADE_WITH = ("base.html.j2", "samples.html.j2", "style.css", "page.js")


def page_name(benchmark: str, page: int) -> str:
    """Returns the file of a page, from 1. No id has a `~`, so no two pages share a name."""
    return f"{benchmark}.html" if page == 1 else f"{benchmark}~{page}.html"


def write_pages(paths: Paths, model: str, benchmark: str, title: str, per_page: int) -> list[Path]:
    """Writes one evaluation's sample pages, unless they are up to date, and returns all of them."""
    source = paths.samples(model, benchmark)
    folder = paths.report / "samples" / model
    with pq.ParquetFile(source) as file:
        schema.check(schema.SAMPLES, file.schema_arrow, source)
        n_samples = file.metadata.num_rows
        n_pages = max(1, -(-n_samples // per_page))
        pages = [folder / page_name(benchmark, page) for page in range(1, n_pages + 1)]
        made_from = _fingerprint(source, title, per_page)
        if all(_made_from(page) == made_from for page in pages):
            return pages
        batches = file.iter_batches(batch_size=per_page)
        for number, path in enumerate(pages, 1):
            batch = next(batches, None)
            html = rendering.render(
                "samples.html.j2",
                title=title,
                made_from=made_from,
                model=model,
                benchmark=benchmark,
                n_samples=n_samples,
                first=(number - 1) * per_page + 1,
                page=number,
                pages=[(n, page_name(benchmark, n)) for n in _near(number, n_pages)],
                samples=[] if batch is None else batch.to_pylist(),
            )
            write_atomically(path, html)
    return pages


def _near(page: int, n_pages: int) -> Iterator[int]:
    """Returns the pages to link: the first, the last, and those around this one."""
    return (n for n in range(1, n_pages + 1) if n in (1, n_pages) or abs(n - page) <= 3)


def _fingerprint(source: Path, title: str, per_page: int) -> str:
    status = source.stat()
    made_with = [rendering.asset(name) for name in _MADE_WITH]
    value = [status.st_size, status.st_mtime_ns, title, per_page, rendering.MAX_TEXT, made_with]
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _made_from(page: Path) -> str | None:
    """Returns the fingerprint in a page's first line."""
    try:
        with page.open(encoding="utf-8") as stream:
            first = stream.readline(300)
    except FileNotFoundError:
        return None
    return first.partition("made from ")[2].partition(" ")[0] or None

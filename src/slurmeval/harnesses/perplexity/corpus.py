"""Texts from files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slurmeval.config.perplexity import PerplexityTexts
from slurmeval.errors import UserError
from slurmeval.harnesses.custom import questions

PLAIN = ".txt"


@dataclass(frozen=True)
class CorpusText:
    """A text of a corpus."""

    id: str
    text: str
    category: str | None


def read(asked: PerplexityTexts, folder: Path, limit: int | None = None) -> list[CorpusText]:
    """Returns the first `limit` texts of a data set's folder.

    Raises:
        UserError: A file or line will not do; the text names both.
    """
    found = list(itertools.islice(_texts(asked, folder), limit))
    if not found:
        raise UserError(f"{folder}: holds no texts")
    seen: dict[str, int] = {}
    for number, text in enumerate(found, 1):
        if text.id in seen:
            raise UserError(f"text {number}: the id {text.id!r} is that of text {seen[text.id]} too")
        seen[text.id] = number
    return found


def _texts(asked: PerplexityTexts, folder: Path) -> Iterator[CorpusText]:
    plain = sorted(path for path in folder.rglob(f"*{PLAIN}") if path.is_file())
    if asked.file is None and plain:
        yield from (_plain(path, folder) for path in plain)
        return
    file = questions.named_file(asked.file, folder, "perplexity.file")
    if file.suffix == PLAIN:
        yield _plain(file, folder)
        return
    for number, (place, row) in enumerate(questions.rows(file), 1):
        try:
            name = str(number) if asked.id is None else questions.text_of(row, asked.id)
            category = None if asked.category is None else questions.text_of(row, asked.category)
            yield CorpusText(name, questions.text_of(row, asked.column), category)
        except UserError as error:
            columns = ", ".join(map(str, row))
            raise UserError(f"{file.name}, {place}: {error} (columns: {columns})") from None


def _plain(path: Path, folder: Path) -> CorpusText:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path.name}: is no UTF-8 ({error.reason} at byte {error.start})") from None
    if not text.strip():
        raise UserError(f"{path.name}: is empty")
    return CorpusText(str(path.relative_to(folder)), text, None)

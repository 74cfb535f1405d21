"""The config's section on texts whose perplexity is measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from slurmeval.config.sources import Identifier, Section


class PerplexityTexts(Section):
    """Texts of one's own, for the harness `perplexity`.

    They are in the data set that the benchmark names: JSON lines (`.jsonl`), CSV, Parquet, or plain text.
    """

    file: str | None = None
    """The file, where the data set has several; of plain text (`.txt`) each file is a text, unless this names
    one."""
    column: Identifier = "text"
    """The column with the texts."""
    id: Identifier | None = None
    """The column that names a text; null: its number, from 1."""
    category: Identifier | None = None
    """The column of its source or topic."""
    window: Annotated[int, Field(ge=16)] = 4000
    """Most characters that the model sees at once. The same for all models, whatever their tokenizers."""
    stride: Annotated[int, Field(ge=1)] = 2000
    """How many of them are new in each window but the first; the others are context."""

    @model_validator(mode="after")
    def _windows_overlap(self) -> PerplexityTexts:
        if self.stride > self.window:
            raise ValueError(f"stride {self.stride} is more than window {self.window}")
        return self

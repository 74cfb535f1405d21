"""Commands that start without what they do not need."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

MAX_NEW_OBJECTS = 100_000
"""How many there may be before garbage is looked for."""


class _NoPandas:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Says that there is no pandas."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)
        return None


def lean() -> None:
    """Keeps pyarrow from importing pandas, and numpy from starting a thread for each core.

    With its first scalar pyarrow would import pandas, which takes 0.26 s. It looks but once, and again where
    a table is to become a DataFrame. Threads of OpenBLAS wait for each other where other programs want the
    cores too, as on a login node: fitting 20,000 questions took 6.5 s of CPU with two, 1.2 s with one.
    Thousands of pairs of models are no garbage: with the usual 700 new objects between two looks for it, all
    are gone through again and again.
    """
    if "numpy" not in sys.modules:
        gc.set_threshold(MAX_NEW_OBJECTS)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)

"""pyarrow in a program that needs no pandas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas:
    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Says that there is no pandas."""
        if name == "pandas":
            raise ModuleNotFoundError(name=name)
        return None


def spare_pandas() -> None:
    """Has pyarrow find no pandas: with its first scalar it would import it, which takes 0.26 s.

    It looks but once, and again where a table is to become a DataFrame.
    """
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(_NoPandas)

"""Numbers in messages and tables of text."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Returns a number and its noun, such as `2 models` or `3 harnesses`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def signed(value: float) -> str:
    """Returns a difference of scores with its sign, such as `−0.012`."""
    return f"{value:+.3f}".replace("-", "−")


def p_value(p: float) -> str:
    """Returns a p-value as papers write it: `p = .041`, `p < .001`."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".")

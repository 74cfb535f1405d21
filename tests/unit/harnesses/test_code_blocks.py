"""Which part of an answer is its program."""

from __future__ import annotations

import pytest

from slurmeval.harnesses.code_blocks import extract_code

GOOD = "def add_one(x):\n    return x + 1"
DRAFT = "def add_one(x):\n    return x"


def fenced(code: str, language: str = "python", fence: str = "```") -> str:
    return f"{fence}{language}\n{code}\n{fence}"


@pytest.mark.parametrize(
    "answer",
    [
        f"Text\n{fenced(GOOD)}\n",
        fenced(GOOD, ""),
        fenced(GOOD, "py"),
        fenced(GOOD, "python title=x.py"),
        fenced(GOOD, "{.python}"),
        fenced(GOOD, fence="~~~"),
        fenced(GOOD, fence="`````"),
        f"```python\n{GOOD}",
        GOOD,
        "1. First\n\n   ```python\n   def add_one(x):\n       return x + 1\n   ```",
    ],
)
def test_a_fence_of_any_kind_holds_the_code(answer: str) -> None:
    assert extract_code(answer, "add_one") == GOOD


@pytest.mark.parametrize(
    "answer",
    [
        f"<think>\nPerhaps\n{fenced(DRAFT)}\n</think>\n{fenced(GOOD)}",
        f"Perhaps\n{fenced(DRAFT)}\n</think>\n\n{fenced(GOOD)}",
        f"A draft:\n{fenced(DRAFT)}\nBetter:\n{fenced(GOOD)}",
        f"{fenced('pip install numpy', 'bash')}\n{fenced(GOOD)}",
        f"{fenced('$ python x.py', 'console')}\n{fenced(GOOD, '')}",
        f"{fenced(GOOD)}\nFor example:\n{fenced('print(add_one(1))')}",
        f"{fenced('add_one(1) == 2')}\n{fenced(GOOD, '')}",
        f"{fenced(GOOD)}\n{fenced('python x.py', 'sh')}",
    ],
)
def test_the_last_block_that_defines_the_function_is_the_code(answer: str) -> None:
    assert extract_code(answer, "add_one") == GOOD


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("    return 1\n", "    return 1\n"),
        (fenced("    return x + 1"), "    return x + 1"),
        (f"{fenced('x = 1')}\n{fenced('y')}", "y"),
        (f"{fenced('x = 1')}\n{fenced('y', '')}", "x = 1"),
        ("", ""),
        ("<think>\nIt may be that", ""),
        ("<think>a</think>", ""),
    ],
)
def test_without_the_function_the_last_python_block_continues_the_prompt(answer: str, code: str) -> None:
    assert extract_code(answer, "add_one") == code


def test_backticks_within_a_longer_fence_end_nothing() -> None:
    code = 'def add_one(x):\n    """\n    ```\n    """\n    return x + 1'
    assert extract_code(fenced(code, fence="````"), "add_one") == code

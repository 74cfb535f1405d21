"""ROUGE (Lin, 2004) of texts in any script.

The package rouge-score reads a-z and 0-9 alone, so that two equal Arabic texts score 0. Here words are what
Unicode calls letters, marks and digits, and scripts that write no spaces are read character by character.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana and Han characters
)
# Marks belong to the letter before them: in Hindi and other scripts they are vowels
_WORD = re.compile(f"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\\W_])+")
SIGNATURE = "tok:unicode|case:lc|stem:no|beta:1|refs:best|version:1"


def tokens(text: str) -> list[str]:
    """Returns the words of a text, in lower case, without punctuation."""
    normal = unicodedata.normalize("NFKC", text).casefold()
    # Python's \w has no combining marks, which many scripts need within words
    joined = "".join("ˑ" if _is_mark(character) else character for character in normal)
    return [normal[span.start() : span.end()] for span in _WORD.finditer(joined)]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def rouge_n(answer: Sequence[str], reference: Sequence[str], n: int) -> float:
    """Returns the F-score of the n-grams that two texts share."""
    grams = [
        Counter(zip(*(text[start:] for start in range(n)), strict=False)) for text in (answer, reference)
    ]
    return _f_score((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total())


def rouge_l(answer: Sequence[str], reference: Sequence[str]) -> float:
    """Returns the F-score of the longest common subsequence of words."""
    return _f_score(_longest_common(answer, reference), len(answer), len(reference))


def _f_score(shared: int, n_answer: int, n_reference: int) -> float:
    return 2 * shared / (n_answer + n_reference) if shared else 0.0


def _longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence, a machine word of bits at a time.

    H. Hyyrö, Bit-Parallel LCS-length Computation Revisited (2004).
    """
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    rows = full
    for word in b:
        matches = rows & places.get(word, 0)
        rows = (rows + matches | rows - matches) & full
    return len(a) - rows.bit_count()


def rouge(kind: str, answer: str, references: Sequence[str]) -> float:
    """Returns `rouge1`, `rouge2` or `rougeL` of an answer against the reference that is nearest to it."""
    words = tokens(answer)
    if kind == "rougeL":
        return max(rouge_l(words, tokens(each)) for each in references)
    return max(rouge_n(words, tokens(each), int(kind[-1])) for each in references)

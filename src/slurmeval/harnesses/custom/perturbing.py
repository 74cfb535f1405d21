"""The same question in other words: typing errors, case, order of choices, something beside the point."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

TYPOS_EVERY = 8
"""Words of which one has a typing error, at least one in a text."""
MIN_LETTERS = 4
"""Of a word that may have one."""
DISTRACTORS = (
    "By the way, my neighbour has two cats and a green bicycle.",
    "It rained all morning, and the bus was ten minutes late.",
    "My cousin once spent a whole summer painting fences.",
    "There are seventeen books on the table beside me.",
)


def typos(text: str, random: Random) -> str:
    """Returns a text in which some words have two neighbouring letters in the wrong order."""
    words = text.split(" ")
    places = [at for at, word in enumerate(words) if len(word) >= MIN_LETTERS and word.isalpha()]
    for at in random.sample(places, min(len(places), max(1, len(places) // TYPOS_EVERY))):
        word = words[at]
        # Neighbours that differ: else the word would stay as it is
        swaps = [place for place in range(1, len(word) - 1) if word[place] != word[place + 1]]
        if swaps:
            place = random.choice(swaps)
            words[at] = word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    return " ".join(words)


def upper(text: str, random: Random) -> str:
    """Returns a text in capital letters."""
    return text.upper()


def lower(text: str, random: Random) -> str:
    """Returns a text without capital letters."""
    return text.lower()


def distractor(text: str, random: Random) -> str:
    """Returns a text after a sentence that has nothing to do with it."""
    return f"{random.choice(DISTRACTORS)} {text}"


OF_TEXTS: dict[str, Callable[[str, Random], str]] = {
    "typos": typos,
    "upper": upper,
    "lower": lower,
    "distractor": distractor,
}
"""Ways to alter the text of a question, by their names in the config."""
OPTIONS, PARAPHRASE = "options", "paraphrase"

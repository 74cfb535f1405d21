"""Metrics of texts are sacrebleu's and rouge-score's, and every script can be read."""

from __future__ import annotations

import warnings

import hypothesis
import hypothesis.strategies as st
import pytest
import sacrebleu
from sacrebleu.metrics import BLEU

from slurmeval.texts import rouge, scoring

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from rouge_score import rouge_scorer  # type: ignore[import-untyped]

# The example of sacrebleu's README
REFERENCES = [
    ["The dog bit the man.", "The dog had bit the man."],
    ["It was not unexpected.", "No one was surprised."],
    ["The man bit him first.", "The man had bitten the dog."],
]
ANSWERS = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]


@pytest.mark.parametrize(
    ("metric", "value", "signature"),
    [
        ("bleu", 48.53, "nrefs:2|bs:1000|seed:12345|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"),
        ("chrf++", 59.15, "nrefs:2|bs:1000|seed:12345|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.6.0"),
        (
            "ter",
            40.00,
            "nrefs:2|bs:1000|seed:12345|case:lc|tok:tercom|norm:no|punct:yes|asian:no|version:2.6.0",
        ),
    ],
)
def test_sacrebleus_example(metric: scoring.MetricName, value: float, signature: str) -> None:
    found = scoring.of_corpus(metric, ANSWERS, REFERENCES, "13a")
    assert round(found.value, 2) == value
    assert found.signature == signature
    assert found.interval is not None and found.interval.low < found.interval.high


def test_rouge_scores_example() -> None:
    a, b = "The quick brown fox jumps over the lazy dog", "The quick brown dog jumps on the log."
    found = [rouge.rouge(kind, b, [a]) for kind in ("rouge1", "rouge2", "rougeL")]
    assert found == pytest.approx([0.7058824, 0.2666667, 0.5882353], abs=5e-8)


class _Ours:
    def tokenize(self, text: str) -> list[str]:
        return rouge.tokens(text)


_TEXT = st.lists(st.sampled_from(["a", "b", "und", "ß", "قط", "猫", "हिन्दी", "."]), max_size=12).map(" ".join)


@hypothesis.given(_TEXT, _TEXT)
def test_rouge_is_rouge_scores_with_a_tokenizer_for_every_script(answer: str, reference: str) -> None:
    kinds = ["rouge1", "rouge2", "rougeL"]
    theirs = rouge_scorer.RougeScorer(kinds, tokenizer=_Ours()).score(reference, answer)
    for kind in kinds:
        assert rouge.rouge(kind, answer, [reference]) == pytest.approx(theirs[kind].fmeasure)


@pytest.mark.parametrize(
    "text",
    ["القط على الحصيرة", "猫坐在垫子上", "แมวนั่งบนเสื่อ", "बिल्ली चटाई पर बैठी है", "Кот сидит", "고양이가 앉았다"],
)
def test_equal_texts_of_every_script_are_equal(text: str) -> None:
    for kind in ("rouge1", "rouge2", "rougeL"):
        assert rouge.rouge(kind, text, [text]) == 1
    assert rouge.rouge("rouge1", "entirely different", [text]) == 0


def test_words_are_read_as_their_script_writes_them() -> None:
    assert rouge.tokens("Don't STOP—now, 3.5!") == ["don", "t", "stop", "now", "3", "5"]
    assert rouge.tokens("हिन्दी भाषा") == ["हिन्दी", "भाषा"]
    assert rouge.tokens("私は猫") == ["私", "は", "猫"]
    assert rouge.tokens("Straße straẞe ﬁn") == ["strasse", "strasse", "fin"]


def test_the_nearest_reference_counts() -> None:
    assert rouge.rouge("rouge1", "a cat", ["a dog", "a cat"]) == 1


def test_two_models_are_compared_as_sacrebleu_does() -> None:
    better = [each[0] for each in REFERENCES] * 10
    worse = ANSWERS * 10
    found = scoring.compared("bleu", better, worse, REFERENCES * 10, "13a", "randomisation")
    assert found.a == pytest.approx(100) and found.b == pytest.approx(48.53, abs=0.01)
    assert found.difference == pytest.approx(51.47, abs=0.01)
    assert found.p_value is not None and found.p_value < 0.01
    for test in ("bootstrap", "randomisation"):
        same = scoring.compared("chrf", worse, worse, REFERENCES * 10, "13a", test)
        assert same.difference == 0 and same.p_value == 1


def test_what_people_see_of_a_difference() -> None:
    assert scoring.people_agree("bleu", 1.0) == pytest.approx(63.989, abs=0.001)  # mt-thresholds' README
    assert scoring.people_agree("rouge1", 1.0) is None


def test_questions_may_have_different_numbers_of_references() -> None:
    references = [["The dog bit the man."], REFERENCES[1], REFERENCES[2]]
    found = scoring.of_corpus("bleu", ANSWERS, references, "13a").value
    theirs = BLEU().corpus_score(
        ANSWERS,
        [["The dog bit the man.", *(r[0] for r in references[1:])], [None, *(r[1] for r in references[1:])]],
    )
    assert found == pytest.approx(theirs.score)
    one = scoring.of_answer("bleu", ANSWERS[2], REFERENCES[2])
    assert one == pytest.approx(sacrebleu.sentence_bleu(ANSWERS[2], REFERENCES[2]).score)

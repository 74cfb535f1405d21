"""Perplexity: sums and windows, and texts asked of a model whose likelihoods are known."""

from __future__ import annotations

import itertools
import json
import math
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from slurmeval.config.models import Benchmark, Model
from slurmeval.config.perplexity import PerplexityTexts
from slurmeval.errors import ErrorClass, EvaluationFailed, UserError
from slurmeval.harnesses import Job, harness
from slurmeval.harnesses.perplexity.corpus import read
from slurmeval.harnesses.perplexity.run import main
from slurmeval.harnesses.perplexity.windows import Likelihoods, TextLikelihood, combined, of_corpus, windows

from .conftest import MakeJob, Server
from .test_damaged_outputs import stands_damage

PERPLEXITY = harness("perplexity")
TEXT = "the cat sat on the mat and the dog sat on the cat because the mat was warm " * 3


def test_perplexities_of_a_known_corpus() -> None:
    texts = [TextLikelihood(30, 10, 44, -6), TextLikelihood(12, 8, 40, -3), TextLikelihood(10, 2, 9, -9)]
    found = of_corpus(texts)
    assert found.token_perplexity == pytest.approx(13.4637380)
    assert found.text_perplexity == pytest.approx(23.7282582)
    assert found.bits_per_byte == pytest.approx(0.8066682)
    assert found.byte_perplexity == pytest.approx(2**0.8066682)
    assert found.min_k == -6


@hypothesis.given(
    st.text(st.sampled_from("abbbé猫\n "), max_size=200), st.integers(16, 60), st.integers(1, 60)
)
def test_windows_hold_a_text_once_and_are_no_longer_than_asked(text: str, window: int, stride: int) -> None:
    stride = min(stride, window)
    found = list(windows(text, window, stride))
    assert "".join(part.new for part in found) == text
    for number, part in enumerate(found):
        assert 0 < len(part.new) <= (stride if number else window)
        assert len(part.context) + len(part.new) <= window
        assert bool(part.context) <= bool(number)


def test_windows_are_cut_between_words() -> None:
    found = list(windows(TEXT, 60, 30))
    assert len(found) > 4
    assert all(part.new.startswith(" ") and not part.new.endswith(" ") for part in found[1:-1])
    assert all(part.context in TEXT and not part.context.startswith(" ") for part in found[1:])


def _bigrams(text: str, bos: bool) -> tuple[list[str], list[float | None]]:
    """Tokens are words with the space before them; a word's likelihood depends on the one before it."""
    tokens = ["<s>"] * bos + [word if not n else f" {word}" for n, word in enumerate(text.split(" "))]
    pairs = itertools.pairwise(tokens)
    return tokens, [None, *(-0.1 - (len(a.strip()) * 7 + len(b.strip()) * 3) % 11 for a, b in pairs)]


def _likelihoods(text: str, bos: bool = False) -> Likelihoods:
    return Likelihoods(*_bigrams(text, bos))


@pytest.mark.parametrize("bos", [True, False])
def test_a_text_in_windows_is_as_likely_as_the_whole(bos: bool) -> None:
    text = TEXT.strip()
    (whole,) = windows(text, 10_000, 5_000)
    expected = combined([(whole, None, _likelihoods(text, bos))])
    parts = [
        (
            part,
            _likelihoods(part.context, bos) if part.context else None,
            _likelihoods(part.context + part.new, bos),
        )
        for part in windows(text, 60, 30)
    ]
    found = combined(parts)
    assert found.nll == pytest.approx(expected.nll)
    assert (found.n_tokens, found.n_bytes) == (expected.n_tokens, expected.n_bytes)
    assert found.min_k == pytest.approx(expected.min_k)
    # Without a token for the beginning nothing is known of the first word
    assert found.n_tokens == len(text.split(" ")) - (not bos)
    assert found.n_bytes == len(text.encode()) - (0 if bos else len("the"))


class _Bigrams(BaseHTTPRequestHandler):
    requests: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).requests.append(body)
        tokens, values = _bigrams(body["prompt"], bos=False)
        logprobs = {"tokens": [*tokens, " x"], "token_logprobs": [*values, -1.0]}
        status, reply = 200, {"choices": [{"text": "", "logprobs": logprobs}]}
        if "refused" in body["prompt"]:
            status, reply = 400, {"error": {"message": "too long"}}
        data = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def run(job: Job, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    import threading

    command = PERPLEXITY.prepare(job)
    path = Path(command.argv[-1])
    monkeypatch.setenv("SLURMEVAL_GATEWAY_KEY", "key")

    class Own(_Bigrams):
        requests: list[dict[str, Any]] = []  # noqa: RUF012

    with Server(("127.0.0.1", 0), Own) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        path.write_text(json.dumps({**json.loads(path.read_text()), "url": url}))
        assert main(path) == 0
        server.shutdown()
    PERPLEXITY.check(job, 0, path)
    return Own.requests


def own(**keys: Any) -> dict[str, Any]:
    return {"harness": "perplexity", "endpoint": "completions", "datasets": ["mine"], **keys}


def test_texts_are_asked_for_in_windows_and_read_back(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job = make_job(**own(perplexity={"window": 60, "stride": 30, "category": "kind"}))
    rows = [{"text": TEXT.strip(), "kind": "cats"}, {"text": "is refused", "kind": "no"}]
    job.datasets["mine"].mkdir(parents=True, exist_ok=True)
    (job.datasets["mine"] / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    requests = run(job, monkeypatch)
    assert {(r["echo"], r["logprobs"], r["max_tokens"], r["temperature"]) for r in requests} == {
        (True, 1, 1, 0)
    }
    assert max(len(request["prompt"]) for request in requests) <= 60
    output = PERPLEXITY.read(job)
    whole = combined([(next(windows(rows[0]["text"], 9999, 1)), None, _likelihoods(rows[0]["text"]))])
    metrics = {metric.metric: metric for metric in output.metrics}
    primary = metrics["bits_per_byte"]
    assert primary.is_primary and primary.higher_is_better is False and primary.value is None
    assert primary.harness_value == pytest.approx(whole.bits_per_byte)
    assert metrics["token_perplexity"].harness_value == pytest.approx(math.exp(whole.nll / whole.n_tokens))
    good, refused = output.samples
    assert good.category == "cats" and good.scores[0].value == pytest.approx(whole.bits_per_byte)
    assert refused.status == "error" and "too long" in refused.metadata["error"] and not refused.scores
    assert set(good.prompts) | {"is refused"} == {request["prompt"] for request in requests}
    stands_damage(job, tmp_path / "tables", "windows", 60)


def test_a_corpus_of_which_nothing_was_answered_has_no_result(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(**own())
    job.datasets["mine"].mkdir(parents=True, exist_ok=True)
    (job.datasets["mine"] / "a.txt").write_text("refused")
    run(job, monkeypatch)
    with pytest.raises(EvaluationFailed, match="of no text") as raised:
        PERPLEXITY.read(job)
    assert raised.value.error_class is ErrorClass.BAD_RESULT


def test_each_plain_file_is_a_text(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("zwei")
    (tmp_path / "one.txt").write_text("eins")
    found = read(PerplexityTexts(), tmp_path)
    assert [(text.id, text.text) for text in found] == [("b/two.txt", "zwei"), ("one.txt", "eins")]
    assert len(read(PerplexityTexts(), tmp_path, 1)) == 1
    assert [text.text for text in read(PerplexityTexts(file="one.txt"), tmp_path)] == ["eins"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.jsonl", b'{"body": "x"}', "t.jsonl, line 1: the column text is missing or empty (columns: body)"),
        ("t.jsonl", b"{", "t.jsonl, line 1: is no JSON"),
        ("t.txt", b"\xff", "t.txt: is no UTF-8"),
        ("t.txt", b" \n", "t.txt: is empty"),
        ("t.csv", b"text\n", "holds no texts"),
        ("t.pdf", b"", "perplexity.file: no file of .jsonl, .csv, .parquet is in"),
    ],
)
def test_a_file_that_will_not_do_is_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as raised:
        read(PerplexityTexts(), tmp_path)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"endpoint": "chat"}, "endpoint: must be completions"),
        ({"datasets": []}, "datasets: must name the one data set"),
        ({"temperature": 0.5}, "temperature: the harness perplexity has none"),
        ({"max_tokens": 5}, "max_tokens: the harness perplexity has none"),
        ({"repeats": 2}, "repeats: the harness perplexity asks once"),
        ({"extra": {"a": 1}}, "extra.a: unknown"),
    ],
)
def test_what_does_not_go_is_refused_beforehand(keys: dict[str, Any], message: str) -> None:
    found = PERPLEXITY.problems(Benchmark.model_validate(own(**keys)))
    assert any(message in line for line in found), found


def test_a_server_without_log_probabilities_is_refused_beforehand() -> None:
    model = Model.model_validate({"weights": {"folder": "/w"}, "logprobs": False})
    (found,) = PERPLEXITY.model_problems(model, Benchmark.model_validate(own()))
    assert "log-probabilities" in found

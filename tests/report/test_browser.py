"""The report in a real browser, from disk, without a network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from slurmeval.harnesses.base import HarnessOutput, Metric, Score
from slurmeval.report import build
from slurmeval.report.samples import SAMPLES_PER_FILE
from slurmeval.results.aggregate import aggregate
from slurmeval.results.comparison import compare
from slurmeval.results.partitions import write
from tests.report import example
from tests.report.chromium import chromium
from tests.report.chromium import until as _until

pytestmark = pytest.mark.browser

TITLE = "A title"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    paths = example.paths_in(tmp_path_factory.mktemp("run #1 with 100% 'quotes' ü"))
    example.write_run(paths)
    return build(paths, example.document(paths.results.parent, title=TITLE)).parent


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """2,100 answers with log-probabilities of choices, one with a rare word, and the gateway's log."""
    paths = example.paths_in(tmp_path_factory.mktemp("long"))
    made = example.samples("t", [True] * 2100)
    for sample in made:
        sample.choices, sample.metadata = ["left", "right"], {"loglikelihoods": [-1.5, -0.25]}
    made[901].output = "A Zyzzyva is a weevil."
    for number, text in enumerate(("我喜欢人工智能。", "ฉันอยู่ในประเทศไทย", "Одно ИЗ СЛОВ", "É-Umlaut"), 1001):
        made[number].output = text
    example.write_with_log(paths, made)
    return build(paths, example.document(paths.results.parent, title=TITLE)).parent


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


def _open(browser: Any, page: Path) -> None:
    browser.get_log("browser")
    browser.get(page.as_uri())


def _all(browser: Any, selector: str) -> list[Any]:
    return list(browser.find_elements("css selector", selector))


def test_every_page_opens_without_console_message_and_nothing_planted_runs(
    browser: Any, report: Path
) -> None:
    pages = sorted(report.rglob("*.html"))
    assert len(pages) == 1 + 2 + 1
    for page in pages:
        _open(browser, page)
        assert browser.get_log("browser") == [], page
        assert browser.title.endswith(TITLE)


def _until_shown(browser: Any) -> None:
    """Waits until the samples are those of the address."""
    script = "return document.getElementById('samples')?.dataset.shown === location.hash"
    _until(browser, lambda: bool(browser.execute_script(script)))


def _open_samples(browser: Any, report: Path, state: str) -> None:
    browser.get("about:blank")  # another address of the same page would not load it again
    browser.get_log("browser")
    browser.get(f"{(report / 'samples.html').as_uri()}#{state}")
    _until_shown(browser)


def _count(browser: Any) -> str:
    return str(browser.find_element("id", "count").text)


def _chosen(browser: Any) -> tuple[str, str]:
    a, b = (browser.find_element("id", name).get_attribute("value") for name in ("a", "b"))
    return a, b


def _number_beside(browser: Any, kind: str) -> int:
    label = browser.find_element("css selector", f"label:has(#show-{kind}) small")
    return int(label.text)


def test_alpha_is_chosen_in_the_page(browser: Any, report: Path) -> None:
    """What has p from .001 to .05 is no evidence once .001 is asked for; at .05 all is as before."""
    _open(browser, report / "index.html")
    script = """return [...document.querySelectorAll('.pairs td[data-p]')].map(
        (cell) => [Number(cell.dataset.holm), cell.className])"""
    planted = (
        "const cell = document.querySelector('.pairs td.sure'); cell.dataset.p = cell.dataset.holm = .01"
    )
    browser.execute_script(planted)
    before = browser.execute_script(script)
    from selenium.webdriver.support.select import Select

    alpha = Select(browser.find_element("id", "alpha"))
    shown = browser.find_element("css selector", ".matrix:not([hidden]) .detectable").text
    alpha.select_by_value("0.001")
    after = browser.execute_script(script)
    assert any("sure" in words for p, words in before if p >= 0.001)
    assert all(("sure" in words) == (p < 0.001) for p, words in after)
    assert {found.text for found in _all(browser, ".matrix:not([hidden]) .alpha")} == {".001"}
    grown = float(browser.find_element("css selector", ".matrix:not([hidden]) .detectable").text)
    assert grown == pytest.approx(float(shown) * 4.1322 / 2.8016, abs=0.002)
    alpha.select_by_value("0.05")
    assert [sorted(words.split()) for _, words in browser.execute_script(script)] == [
        sorted(words.split()) for _, words in before
    ]


STATES = (
    "index.html",
    f"models/{example.MODELS[0]}.html",
    f"samples.html#on=asdiv&a={example.MODELS[0]}",
    f"samples.html#on=asdiv&a={example.MODELS[0]}&b={example.MODELS[1]}",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_that_keeps_people_out(browser: Any, report: Path, scheme: str) -> None:
    """Landmarks, names, contrast, order and what the keyboard reaches, by the rules of WCAG 2.1 AA."""
    import axe_core_python

    axe = Path(axe_core_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    run = (
        "const done = arguments[0], rules = ['wcag2a', 'wcag2aa', 'wcag21aa', 'best-practice'];"
        "axe.run({runOnly: rules}).then((found) => done(found.violations.map((one) => "
        "`${one.id}: ${one.nodes[0].html.slice(0, 200)}`)), (error) => done([String(error)]))"
    )
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        for state in STATES:
            browser.get("about:blank")
            browser.get(f"{report.as_uri()}/{state}")
            if state.startswith("samples"):
                _until_shown(browser)
            browser.execute_script(axe)
            assert browser.execute_async_script(run) == [], state
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_a_script_in_an_answer_is_text(browser: Any, report: Path) -> None:
    _open_samples(browser, report, "on=asdiv")
    shown = [element.text for element in _all(browser, "pre.output")]
    assert example.HOSTILE[0] in shown
    assert example.HOSTILE[1] in shown
    assert not _all(browser, "main script, main img")


def test_hostile_names_and_answers_of_a_megabyte_are_shown_and_ask_for_nothing(
    browser: Any, tmp_path: Path
) -> None:
    """Whatever a harness calls a task, a metric, a filter, a subject; whatever a model says, however long."""
    paths = example.paths_in(tmp_path)
    script = '"><img src=https://x.invalid/a onerror="document.title=1"><script>document.title=2</script>'
    made = example.samples("t", [True] * 3)
    long = ("<b>bold</b> " + "word" * 30 + " \x00\x1b[31m \u202e\u2066") * 8000
    for sample, output in zip(made, (script, long, "مرحبا <!-- \ufeff --> </pre></main>"), strict=True):
        sample.output, sample.native_id, sample.task, sample.category = output, script, script, script
        sample.reference, sample.choices = script, [script, long]
        sample.scores = [Score(script, 1.0, script, True, answer=output, explanation=script)]
    assert len(long) > 1_000_000
    metric = Metric(script, script, 1.0, 1.0, script, script, 1, 0.0, 3, is_primary=True)
    for model in ("one", "other"):
        found = HarnessOutput([metric], made, 3, script, script)
        write(paths, model, "b", example.evaluation(task=script, harness=script, log=script), found, None)
    example.write_failure(paths, "one", "failed")
    aggregate(paths, [("one", "b"), ("other", "b"), ("one", "failed")])
    folder = build(paths, example.document(tmp_path, title=f"{script} {TITLE}")).parent
    resources = "return performance.getEntriesByType('resource').map((one) => one.name)"
    for state in ("index.html", "models/one.html", "samples.html#a=one", "samples.html#a=one&b=other"):
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get(f"{folder.as_uri()}/{state}")
        if state.startswith("samples"):
            _until_shown(browser)
            outputs = [element.text for element in _all(browser, "pre.output")]
            assert script in outputs
            assert any("more characters in the samples table" in text for text in outputs)
            assert any("مرحبا <!-- ⟨U+FEFF⟩ --> </pre></main>" in text for text in outputs)
            assert any("⟨U+0000⟩⟨U+001B⟩[31m ⟨U+202E⟩⟨U+2066⟩" in text for text in outputs)
        assert browser.title.endswith(TITLE), state
        assert not _all(browser, "main img, main script, main b b"), state
        assert browser.get_log("browser") == [], state
        assert all(name.startswith("file:") for name in browser.execute_script(resources)), state
        width = browser.execute_script("return document.documentElement.scrollWidth - innerWidth")
        assert width <= 0, state


@pytest.mark.parametrize("page", ["index.html", "samples.html"])
def test_the_policy_would_stop_a_script_that_got_in(browser: Any, report: Path, page: str) -> None:
    """Were the escaping to fail one day, the page's policy is the second wall."""
    _open(browser, report / page)
    title = browser.title
    browser.execute_script(
        "const s = document.createElement('script'); s.textContent = 'document.title = \"owned\"';"
        "document.body.append(s);"
        "const d = document.createElement('div'); d.innerHTML = '<img src=x onerror=\"document.title=1\">';"
        "document.body.append(d);"
    )
    assert browser.title == title
    assert "Content Security Policy" in str(browser.get_log("browser"))


def _column(browser: Any, number: int) -> list[str]:
    rows = _all(browser, "#scores tbody tr")
    return [row.find_elements("css selector", "th, td")[number].text.split("\n")[0] for row in rows]


def test_a_click_on_a_head_sorts_and_another_turns_it_round(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    heads = _all(browser, "#scores thead th")
    names = [head.text.split("\n")[0] for head in heads]
    assert names == ["Model", "Mean of 4", *example.BENCHMARKS, "Server time"]
    heads[4].find_element("css selector", "button").click()
    assert [cell.split()[0] for cell in _column(browser, 4)] == ["0.967", "harness"]
    assert heads[4].get_attribute("aria-sort") == "descending"
    assert _column(browser, 0) == list(example.MODELS)
    heads[0].find_element("css selector", "button").click()
    assert _column(browser, 0) == sorted(example.MODELS)
    assert heads[4].get_attribute("aria-sort") is None
    heads[0].find_element("css selector", "button").click()
    assert _column(browser, 0) == sorted(example.MODELS, reverse=True)


def test_a_benchmark_is_chosen_for_the_pairs_of_models(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    choice = browser.find_element("id", "pairs-on")
    names = [option.text for option in choice.find_elements("css selector", "option")]
    assert names == ["the mean over benchmarks", "openbookqa", "asdiv", "humaneval"]
    for number, name in enumerate(names):
        choice.find_elements("css selector", "option")[number].click()
        shown = [table.is_displayed() for table in _all(browser, "#pairs .matrix")]
        assert shown == [position == number for position in range(4)], name
    cells = [cell for cell in _all(browser, "#pairs td.num") if cell.is_displayed()]
    one, other = (cell.text.split("\n")[0].split() for cell in cells)
    assert {one[0], other[0]} == {"▲", "▼"}
    assert one[1].strip("+−") == other[1].strip("+−")


def test_a_score_leads_to_its_samples_their_next_page_and_back(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    browser.find_element("link text", "0.967").click()
    _until_shown(browser)
    assert browser.find_element("css selector", "h1").text == "bfcl.v3"
    assert _count(browser).startswith("Samples 1–20 of 60.")
    browser.find_element("css selector", "nav.pages").find_element("link text", "3").click()
    _until_shown(browser)
    assert _count(browser).startswith("Samples 41–60 of 60.")
    browser.back()
    _until_shown(browser)
    assert _count(browser).startswith("Samples 1–20 of 60.")
    browser.find_element("link text", TITLE).click()
    assert browser.find_element("css selector", "h1").text == TITLE


def test_samples_are_shown_by_how_they_were_scored(browser: Any, report: Path) -> None:
    _open_samples(browser, report, "on=asdiv")
    counts = {}
    for kind in ("right", "wrong", "other"):
        browser.find_element("id", f"show-{kind}").click()
        _until_shown(browser)
        assert {article.get_attribute("class") for article in _all(browser, "article")} <= {kind}
        counts[kind] = _number_beside(browser, kind)
    assert counts["right"] + counts["wrong"] == 60
    assert 0 < counts["right"] < 60 and counts["other"] == 0


def _pair(report: Path) -> tuple[int, int]:
    """How many questions of ASDiv only the first model has right, and only the second."""
    (compared,) = compare(report.parent, *example.MODELS, ["asdiv"]).benchmarks
    found = compared.difference
    assert found is not None and found.a_only is not None and found.b_only is not None
    return found.a_only, found.b_only


def test_a_cell_of_the_matrix_leads_to_the_pair_with_its_flips_first(browser: Any, report: Path) -> None:
    _open(browser, report / "index.html")
    browser.find_element("css selector", "#pairs-on option[value='2']").click()
    cell = next(link for link in _all(browser, "#pairs-2 td a") if link.is_displayed())
    difference = cell.text
    cell.click()
    _until_shown(browser)
    said = browser.find_element("id", "said").text
    assert f"is {difference} exact_match on 60 questions" in said
    (a, b), only = _chosen(browser), _pair(report)
    a_only, b_only = only if (a, b) == example.MODELS else only[::-1]
    assert (_number_beside(browser, "a"), _number_beside(browser, "b")) == (a_only, b_only)
    assert _number_beside(browser, "different") == a_only + b_only
    tags = [tag.text for tag in _all(browser, "article .tag")]
    expected = [f"only {a} right"] * a_only + [f"only {b} right"] * b_only + ["scored alike"] * 60
    assert tags == expected[:20]
    browser.find_element("id", "show-b").click()
    _until_shown(browser)
    for article in _all(browser, "article"):
        sides = [side.get_attribute("class") for side in article.find_elements("css selector", ".side")]
        assert sides == ["side wrong", "side right"]
    assert len(_all(browser, "article")) == min(20, b_only)


def test_words_that_differ_are_marked_on_either_side(browser: Any, report: Path) -> None:
    _open_samples(browser, report, "on=asdiv")
    found = browser.execute_script(
        "const marks = (pre) => [...pre.querySelectorAll('mark')].map((mark) => mark.textContent);"
        "const [one, other] = outputs(['The sum of 2 and 3 is 5.', 'The sum of 2 and 4 is <b>6</b>.']);"
        "const [same] = outputs(['equal', 'equal']);"
        "const long = outputs(['a '.repeat(9e3), 'b '.repeat(9e3)]);"
        "return [marks(one), marks(other), one.textContent, other.textContent, marks(same), marks(long[0])]"
    )
    assert found[:2] == [["3", "5"], ["4", "<b>6</b>"]]
    assert found[2:4] == ["The sum of 2 and 3 is 5.", "The sum of 2 and 4 is <b>6</b>."]
    assert found[4:] == [[], []]


def test_every_sample_has_a_link_and_what_is_shown_stands_in_the_address(browser: Any, report: Path) -> None:
    one, other = example.MODELS
    _open_samples(browser, report, f"a={one}&b={other}&on=asdiv&show=different&page=2")
    number = _all(browser, "article h2 a")[3]
    expected, link = number.text, number.get_attribute("href")
    browser.get("about:blank")
    browser.get(link)
    _until_shown(browser)
    assert [number.text for number in _all(browser, "article h2 a")] == [expected]
    assert _chosen(browser) == (one, other)
    browser.find_element("link text", "Show all").click()
    _until_shown(browser)
    assert _count(browser).startswith("Samples 1–20 of 60.")


def test_a_rare_word_is_found_and_few_scripts_are_looked_at_for_it(browser: Any, long: Path) -> None:
    _open_samples(browser, long, "on=b&a=m&search=ZYZZYVA")
    assert _count(browser).startswith("Samples 1–1 of 1, 2\u2009100 in all")
    assert "A Zyzzyva is a weevil." in [element.text for element in _all(browser, "pre.output")]
    looked_at = browser.execute_async_script(
        "const done = arguments[0]; part('m', 'b', 0).then(async (index) => {"
        "const may = await candidates('m', 'b', 'zyzzyva', index.buckets);"
        "done(index.flags.filter((_, position) => may(position)).length); })"
    )
    assert looked_at == SAMPLES_PER_FILE  # those of one script of eleven


def test_a_search_says_that_it_goes_on_and_what_it_has_found_so_far(browser: Any, long: Path) -> None:
    _open_samples(browser, long, "on=b&a=m")
    browser.execute_script(
        "window.said = []; new MutationObserver(() => said.push(element('count').textContent))"
        ".observe(element('count'), {childList: true}); go({search: 'he answer is'})"
    )
    _until(browser, lambda: "search=" in browser.current_url)
    _until_shown(browser)
    said = browser.execute_script("return said")
    n = 2100 - 300 - 4  # every seventh answer is another, and so are four more
    assert said[-1].startswith(f"Samples 1–20 of {n:,}".replace(",", "\u2009"))
    assert any(re.fullmatch(r"Searching … 1\u2009\d+ found in 95 %\.", text) for text in said)


@pytest.mark.parametrize(
    ("wanted", "number"), [("人工智能", 1), ("智能", 1), ("ประเทศไทย", 2), ("ИЗ слов", 3), ("é", 4)]
)
def test_a_part_of_a_text_in_any_script_is_found(browser: Any, long: Path, wanted: str, number: int) -> None:
    _open_samples(browser, long, f"on=b&a=m&search={quote(wanted)}")
    assert [link.text for link in _all(browser, "article h2 a")] == [str(1000 + number + 1)]


def test_what_was_read_ahead_is_searched_without_reading_it_again(browser: Any, long: Path) -> None:
    _open_samples(browser, long, "on=b&a=m")
    _until(browser, lambda: browser.execute_script("return searchable.size") == 11 * 2)
    found = browser.execute_async_script(
        "const done = arguments[0]; part = () => Promise.reject(new Error('read again'));"
        "const rows = alone({flags: Array(2100).fill('r'), uids: '0'.repeat(2100 * 8)});"
        "searched({a: 'm', on: 'b', search: 'weevil'}, rows, [{}], () => true, () => {})"
        ".then((rows) => done(rows.map((row) => row.a)), (error) => done(String(error)))"
    )
    assert found == [901]


def test_prompt_as_sent_and_log_probabilities_stand_beside_an_answer(browser: Any, long: Path) -> None:
    _open_samples(browser, long, "on=b&a=m")
    first = browser.find_element("css selector", "article")
    table = first.find_element("css selector", ".likelihoods")
    assert table.text.split() == ["left", "-1.500", "right", "-0.250"]
    assert first.find_element("css selector", ".likelihoods .best").text == "-0.250"
    first.find_element("css selector", "details.sent summary").click()
    _until(browser, lambda: len(first.find_elements("css selector", "details.sent pre")) > 0)
    assert (
        first.find_element("css selector", "details.sent pre").text == example.samples("t", [True])[0].input
    )
    assert browser.get_log("browser") == []


def test_the_text_that_the_model_read_stands_below_the_messages(browser: Any, tmp_path: Path) -> None:
    paths = example.paths_in(tmp_path)
    made = example.samples("t", [True])
    example.write_with_log(paths, made)
    report = build(paths, example.document_with_template(paths)).parent
    _open_samples(browser, report, "on=b&a=m")
    browser.find_element("css selector", "details.sent summary").click()
    _until(browser, lambda: len(_all(browser, "details.sent pre")) > 0)
    message, whole = (element.text for element in _all(browser, "details.sent pre"))
    assert whole == f"<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant"
    assert "tokenizer_config.json" in browser.find_element("css selector", "details.sent").text
    assert browser.get_log("browser") == []


def test_samples_are_searched_by_words(browser: Any, report: Path) -> None:
    _open_samples(browser, report, "on=asdiv")
    browser.find_element("id", "search").send_keys("MAPLE leaf")
    _until(browser, lambda: "search=" in browser.current_url)
    _until_shown(browser)
    assert _count(browser).startswith("Samples 1–15 of 15, 60 in all.")
    assert all("maple leaf" in article.text for article in _all(browser, "article"))


def test_samples_are_gone_through_by_keys(browser: Any, report: Path) -> None:
    _open_samples(browser, report, "on=asdiv")
    body = browser.find_element("css selector", "body")
    body.send_keys("jj")
    assert browser.switch_to.active_element.get_attribute("id") == _all(browser, "article")[1].get_attribute(
        "id"
    )
    body.send_keys("k")
    assert browser.switch_to.active_element.get_attribute("id") == _all(browser, "article")[0].get_attribute(
        "id"
    )
    body.send_keys("/")
    assert browser.switch_to.active_element.get_attribute("id") == "search"


@pytest.mark.parametrize(
    "state",
    ["a=nobody&on=nothing&page=99&show=nonsense", "a=../../x&b=constructor&on=__proto__&page=-1", "&&=%"],
)
def test_an_address_that_names_nothing_shows_what_there_is(browser: Any, report: Path, state: str) -> None:
    _open_samples(browser, report, state)
    assert browser.find_element("css selector", "h1").text == "openbookqa"
    assert len(_all(browser, "article")) == 20
    assert browser.get_log("browser") == []


# Each colour of text with the colour below it, as bytes.
COLOURS = """
const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
const bytes = (...layers) => {
  for (const colour of layers) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
};
const below = (element) => {
  const layers = [];
  for (let e = element; e; e = e.parentElement) layers.unshift(getComputedStyle(e).backgroundColor);
  return layers;
};
const found = new Set();
for (const element of document.querySelectorAll('main *, header *')) {
  const direct = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!direct || !element.checkVisibility()) continue;
  found.add(JSON.stringify([bytes(getComputedStyle(element).color), bytes('#fff', ...below(element))]));
}
return [...found].map(JSON.parse);
"""


@pytest.mark.parametrize("page", ["index.html", "samples.html"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Any, report: Path, scheme: str, page: str) -> None:
    """At least 4.5:1 (WCAG 2, AA), for every colour of text on the colour below it."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    if page == "samples.html":
        _open_samples(browser, report, f"a={example.MODELS[0]}&b={example.MODELS[1]}&on=asdiv")
    else:
        _open(browser, report / page)
    found = browser.execute_script(COLOURS)
    assert len(found) >= 4
    for colour, background in found:
        assert _contrast(colour, background) >= 4.5, (colour, background)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_print_shows_the_samples_without_the_controls(browser: Any, report: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    _open_samples(browser, report, f"a={example.MODELS[0]}&b={example.MODELS[1]}&on=asdiv")
    assert browser.find_element("css selector", "article .side").is_displayed()
    assert not browser.find_element("id", "search").is_displayed()
    assert not browser.find_element("id", "show").is_displayed()
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_a_printed_page_holds_its_tables_and_charts(browser: Any, report: Path) -> None:
    size = {"width": 718, "height": 1000, "deviceScaleFactor": 1, "mobile": False}  # A4 between its margins
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    for page in ("index.html", f"models/{example.MODELS[0]}.html"):
        _open(browser, report / page)
        wider = (
            "return [...document.querySelectorAll('table, svg')]"
            ".filter((one) => one.checkVisibility() && one.getBoundingClientRect().right > innerWidth)"
            ".map((one) => one.outerHTML.slice(0, 300))"
        )
        assert browser.execute_script(wider) == [], page
        assert not any(found.is_displayed() for found in _all(browser, ".chosen"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_narrow_screen_scrolls_tables_not_the_page(browser: Any, report: Path, long: Path) -> None:
    size = {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for page in ("index.html", f"models/{example.MODELS[0]}.html", "samples.html"):
        if page == "samples.html":
            _open_samples(browser, report, f"a={example.MODELS[0]}&b={example.MODELS[1]}&on=asdiv")
        else:
            _open(browser, report / page)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= 360, page
    _open_samples(browser, long, "on=b&a=m")
    for selector in ("article > pre", "article > .facts", "details.sent"):
        assert _all(browser, selector)[0].size["width"] > 150, selector
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def _contrast(one: list[int], other: list[int]) -> float:
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(rgb: list[int]) -> float:
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

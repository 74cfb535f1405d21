"use strict";
// The samples of one evaluation, or of two models side by side. What is shown stands in the address, after `#`:
// a, b (models), on (benchmark), show (filter), search, page, q (one question). Text is only ever set as text.
const main = document.getElementById("samples");
const evaluations = JSON.parse(main.dataset.evaluations);
const perPage = Number(main.dataset.perPage);
const element = (id) => document.getElementById(id);

// Loading: a script calls slurmeval() with what it holds (scripts.py). What was used last is kept.
const MAX_HELD = 30_000_000; // characters
const waiting = new Map();
const loaded = new Map();
let held = 0;
globalThis.slurmeval = (name, length, text) => waiting.get(name)?.(unpacked(length, text));
function unpacked(length, text) {
  const units = new Uint16Array(text.length);
  let n = 0;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    units[n++] = unit === 1 ? text.charCodeAt(++at) ^ 0x8000 : unit;
  }
  const { readable, writable } = new DecompressionStream("gzip");
  const writer = writable.getWriter();
  const written = writer.write(new Uint8Array(units.buffer, 0, length)).then(() => writer.close());
  written.catch(() => {}); // who reads it is told
  return new Response(readable);
}
function scriptAt(name, path) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    waiting.set(name, resolve);
    script.src = path;
    script.onload = script.onerror = (event) => {
      waiting.delete(name);
      script.remove();
      if (event.type === "error") reject(new Error(`${path} is missing`));
    };
    document.head.append(script);
  });
}
async function contentOf(entry, name, path, binary) {
  const response = await scriptAt(name, path);
  const content = binary ? new Uint8Array(await response.arrayBuffer()) : await response.text();
  entry.size = content.length;
  if (loaded.get(name) === entry) held += entry.size;
  for (const oldest of loaded.keys()) {
    if (held <= MAX_HELD || oldest === name) break;
    drop(oldest);
  }
  return binary ? content : JSON.parse(content);
}
function drop(name) {
  const { size } = loaded.get(name) ?? { size: 0 };
  if (size > 0) loaded.delete(name); // else it is on its way
  held -= size;
}
function load(name, path, binary = false) {
  const found = loaded.get(name) ?? { size: 0 };
  loaded.delete(name);
  loaded.set(name, found);
  found.content ??= contentOf(found, name, path, binary);
  return found.content;
}
function part(folder, benchmark, number, kind = "", binary = false) {
  const file = `${benchmark}${number ? `~${number}` : ""}${kind ? `~${kind}` : ""}.js`;
  return load(`${folder}/${file}`, `samples/${encodeURIComponent(folder)}/${encodeURIComponent(file)}`, binary);
}
const PER_FILE = Number(main.dataset.perFile);
const QUESTIONS = "~";
const fileOf = (position) => Math.floor(position / PER_FILE);
function row({ n, together, texts, ...columns }, place) {
  const all = [...Object.entries(columns).map(([name, values]) => [name, values[place]]), ...together.map((name, which) => [name, texts[place][which]])];
  return Object.fromEntries(all.filter(([, value]) => (value ?? null) !== null));
}
const uidOf = (index, position) => {
  const digits = index.uids.length / index.flags.length;
  return index.uids.slice(digits * position, digits * (position + 1));
};
const repeatOf = (index, position) => index.repeats?.[position] ?? 0;
const questionOf = (index, position) => index.questions?.[position] ?? position;
async function sample(model, benchmark, position) {
  const index = await part(model, benchmark, 0);
  const asked = questionOf(index, position);
  const [answers, questions] = await Promise.all([part(model, benchmark, fileOf(position) + 1), part(QUESTIONS, benchmark, fileOf(asked) + 1)]);
  return { ...row(questions, asked % PER_FILE), ...row(answers, position % PER_FILE) };
}

// The address
function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = Object.fromEntries(["a", "b", "on", "show", "search", "q"].map((name) => [name, given.get(name) ?? ""]));
  const has = (model, benchmark) => evaluations[benchmark]?.includes(model);
  const benchmarks = Object.keys(evaluations);
  if (!Object.hasOwn(evaluations, state.on)) {
    state.on = benchmarks.find((name) => has(state.a, name) && (!state.b || has(state.b, name)))
      ?? benchmarks.find((name) => has(state.a, name)) ?? benchmarks[0];
  }
  if (!evaluations[state.on]) return null;
  if (!has(state.a, state.on)) state.a = evaluations[state.on][0];
  if (!has(state.b, state.on) || state.b === state.a) state.b = "";
  state.show = state.show || "all";
  state.page = Math.max(1, Number.parseInt(given.get("page"), 10) || 1);
  return state;
}
function address(state) {
  const kept = Object.entries(state).filter(([name, value]) => value && !(name === "show" && value === "all") && !(name === "page" && value === 1));
  return `#${new URLSearchParams(kept)}`;
}
let now = null;
const go = (change) => { location.hash = address({ ...now, page: 1, q: "", ...change }); };

// Elements
function make(tag, className = "", text = "", children = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== "") made.textContent = text;
  made.append(...children);
  return made;
}
const count = (number) => number.toLocaleString("en").replaceAll(",", "\u2009");
const seconds = (ms) => (ms < 60000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60000)} min ${String(Math.round(ms / 1000) % 60).padStart(2, "0")} s`);

// A row: one answer to one question. `kind`: whose score is better; `flags`: the letters of either model.
function paired(a, b) {
  const sign = a.higher ? 1 : -1;
  const keyOf = (index, position) => questionOf(index, position) * 1e6 + repeatOf(index, position);
  const of = new Map(b.flags.map((_, position) => [keyOf(b, position), position]));
  const rows = a.values.map((value, position) => {
    const key = keyOf(a, position);
    const other = of.get(key);
    of.delete(key);
    const otherValue = b.values[other] ?? null;
    const known = value !== null && otherValue !== null;
    const kind = !known ? "unpaired" : value === otherValue ? "same" : (value - otherValue) * sign > 0 ? "a" : "b";
    return { uid: uidOf(a, position), repeat: repeatOf(a, position), a: position, b: other, kind, flags: [a.flags[position], b.flags[other] ?? ""] };
  });
  for (const position of of.values()) {
    rows.push({ uid: uidOf(b, position), repeat: repeatOf(b, position), b: position, kind: "unpaired", flags: ["", b.flags[position]] });
  }
  return ["a", "b", "same", "unpaired"].flatMap((kind) => rows.filter((row) => row.kind === kind));
}
const alone = (a) => a.flags.map((flags, position) => ({ uid: uidOf(a, position), repeat: repeatOf(a, position), a: position, flags: [flags] }));
const some = (letter) => (row) => row.flags.some((flags) => flags.includes(letter));
const every = (letter) => (row) => row.flags.every((flags) => flags.includes(letter));
const FILTERS = { unparsed: ["unparsed", some("u")], cut: ["cut", some("c")], unanswered: ["unanswered", some("e")] };
function words(kind, state, binary) {
  if (kind === "same") return "scored alike";
  if (kind === "unpaired") return "not paired";
  return binary ? `only ${state[kind]} right` : `${state[kind]} scored better`;
}
function filters(state, binary) {
  if (!state.b) {
    const other = (row) => !/[rw]/.test(row.flags[0]);
    return { all: ["all", () => true], right: ["right", every("r")], wrong: ["wrong", every("w")], other: ["not scored", other], ...FILTERS };
  }
  const kinds = (...wanted) => (row) => wanted.includes(row.kind);
  return {
    all: ["all, differences first", () => true],
    different: ["scored differently", kinds("a", "b")],
    a: [words("a", state, binary), kinds("a")],
    b: [words("b", state, binary), kinds("b")],
    wrong: ["both wrong", every("w")],
    unpaired: ["not paired", kinds("unpaired")],
    ...FILTERS,
  };
}

// Words that the other answer does not have in this place, by the longest common subsequence.
const MAX_PRODUCT = 4_000_000;
const tokens = (text) => text.match(/\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu) ?? [];
function common(one, other) {
  let start = 0;
  while (start < one.length && start < other.length && one[start] === other[start]) start++;
  let end = 0;
  while (end < one.length - start && end < other.length - start && one[one.length - 1 - end] === other[other.length - 1 - end]) end++;
  const [n, m] = [one.length - start - end, other.length - start - end];
  if (n * m > MAX_PRODUCT) return null;
  const width = m + 1;
  const longest = new Uint16Array((n + 1) * width);
  for (let i = n - 1; i >= 0; i--) {
    for (let j = m - 1; j >= 0; j--) {
      longest[i * width + j] = one[start + i] === other[start + j]
        ? longest[(i + 1) * width + j + 1] + 1
        : Math.max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
    }
  }
  const kept = [new Array(one.length).fill(true), new Array(other.length).fill(true)];
  kept[0].fill(false, start, start + n);
  kept[1].fill(false, start, start + m);
  for (let i = 0, j = 0; i < n && j < m;) {
    if (one[start + i] === other[start + j]) kept[0][start + i++] = kept[1][start + j++] = true;
    else if (longest[(i + 1) * width + j] >= longest[i * width + j + 1]) i++;
    else j++;
  }
  return kept;
}
function marked(words, kept) {
  const parts = [];
  for (let from = 0; from < words.length;) {
    let to = from;
    while (to < words.length && kept[to] === kept[from]) to++;
    const text = words.slice(from, to).join("");
    parts.push(kept[from] || !text.trim() ? document.createTextNode(text) : make("mark", "", text));
    from = to;
  }
  return parts;
}
function outputs(texts) {
  const pres = texts.map((text) => make("pre", "output", text ?? ""));
  if (texts.length === 2 && texts[0] && texts[1] && texts[0] !== texts[1]) {
    const split = texts.map(tokens);
    const kept = common(...split);
    if (kept) pres.forEach((pre, side) => pre.replaceChildren(...marked(split[side], kept[side])));
  }
  return pres;
}

// One sample
function facts(shown) {
  const line = make("p", "facts");
  const add = (text, className = "dim") => line.append(make("span", className, text));
  if (shown.status !== "ok") add(shown.status === "error" ? "no answer" : shown.status, "bad");
  for (const score of shown.scores) {
    const judged = score.correct ?? null;
    const span = make("span", judged === null ? "" : judged ? "good" : "bad", score.metric);
    if (score.filter) span.append(" ", make("small", "", score.filter));
    span.append(` ${(score.value ?? null) === null ? "–" : Number(score.value.toPrecision(6))}${judged === null ? "" : judged ? " ✓" : " ✗"}`);
    line.append(span);
  }
  if (shown.ms !== undefined) add(seconds(shown.ms));
  if (shown.tokens_in !== undefined || shown.tokens_out !== undefined) add(`${count(shown.tokens_in ?? 0)} → ${count(shown.tokens_out ?? 0)} tokens`);
  if (shown.requests > 1) add(`${count(shown.requests)} requests`);
  if (shown.cut) add("prompt cut to what the model holds", "bad");
  if (shown.finish) add(shown.finish === "length" ? "cut off at the token limit" : shown.finish, shown.finish === "length" ? "bad" : "dim");
  return line;
}
const field = (name, text) => (text === undefined ? [] : [make("h3", "", name), make("pre", "", text)]);
function question(shown) {
  const choices = (shown.choices ?? []).map((choice) => make("li", "", choice));
  return [...field("Input", shown.input), ...(choices.length ? [make("h3", "", "Choices"), make("ol", "", "", choices)] : []), ...field("Reference", shown.reference)];
}
// Log-probabilities of the choices, or of the text that was scored: the likeliest is the answer.
function likelihoods(shown) {
  if (!shown.logprobs?.length) return [];
  const likeliest = Math.max(...shown.logprobs);
  const lines = shown.logprobs.map((value, place) => make("tr", "", "", [
    make("th", "", shown.choices?.[place] ?? `text ${place + 1}`),
    make("td", value === likeliest && shown.logprobs.length > 1 ? "num best" : "num", value.toFixed(3)),
  ]));
  for (const line of lines) line.firstChild.scope = "row";
  return [make("h3", "", "Log-probabilities"), make("table", "likelihoods", "", [make("tbody", "", "", lines)])];
}
// What was sent: read from its own script once someone asks for it.
function sent(state, side, position, shown, index) {
  const details = make("details", "sent", "", [make("summary", "", "Prompt as sent")]);
  details.addEventListener("toggle", async () => {
    if (!details.open || details.children.length > 1) return;
    const all = await part(state[side], state.on, fileOf(position) + 1, "sent");
    const requests = all.sent[position % PER_FILE];
    const laidOut = (numbers) => (numbers ? [make("h3", "", "As one text"), make("p", "dim", `What the model read, worked out from these messages by the chat template that was staged with it (${index.template}).`), make("pre", "", text(numbers))] : []);
    const text = (numbers) => numbers.map((number) => (number < 0 ? shown.input ?? "" : all.texts[number])).join("");
    const blocks = requests.flatMap(([parameters, ...messages], number) => [
      ...(requests.length > 1 ? [make("h3", "", `Request ${number + 1}`)] : []),
      ...messages.flatMap(([role, parts]) => [...(role ? [make("h3", "", role)] : []), make("pre", "", text(parts))]),
      ...laidOut(all.laid_out?.[position % PER_FILE][number]),
      make("p", "dim", all.parameters[parameters]),
    ]);
    details.append(...(blocks.length ? blocks : [make("p", "dim", "No request of this sample could be told from the others.")]));
  });
  return details;
}
function answer(state, side, position, shown, output, index) {
  const thoughts = shown.thoughts === undefined ? [] : [make("details", "", "", [make("summary", "", "Thoughts"), make("pre", "", shown.thoughts)])];
  const read = shown.scores.flatMap((score) => [...field("Read as", score.answer ?? undefined), ...field("Because", score.explanation || undefined)]);
  return [...thoughts, make("h3", "", "Output"), output, ...read, ...likelihoods(shown), ...(index.sent ? [sent(state, side, position, shown, index)] : [])];
}
const verdict = (flags) => (flags.includes("r") ? "right" : flags.includes("w") ? "wrong" : "other");
function article(state, row, shown, binary, indexes) {
  const first = shown.find(Boolean);
  const where = [first.task, first.category].filter(Boolean).join(" / ");
  const repeat = row.repeat ? `, repeat ${row.repeat}` : "";
  const number = make("a", "", String((row.a ?? row.b) + 1));
  number.href = address({ a: state.a, b: state.b, on: state.on, q: row.uid });
  const head = make("h2", "", "", [number, " ", make("span", "dim", `${where}, id ${first.id}${repeat}`)]);
  const made = make("article", state.b ? "pair" : verdict(row.flags[0]), "", [head]);
  made.tabIndex = -1;
  made.id = `s${row.uid}-${row.repeat}`;
  if (!state.b) {
    made.append(facts(first), ...question(first), ...answer(state, "a", row.a, first, ...outputs([first.output]), indexes[0]));
    return made;
  }
  head.append(" ", make("span", "tag", words(row.kind, state, binary)));
  const pres = outputs(shown.map((one) => one?.output));
  const sides = shown.map((one, side) => {
    const model = make("h3", "model", side ? state.b : state.a);
    if (!one) return make("section", "side other", "", [model, make("p", "dim", "was not asked")]);
    return make("section", `side ${verdict(row.flags[side])}`, "", [model, facts(one), ...answer(state, side ? "b" : "a", side ? row.b : row.a, one, pres[side], indexes[side])]);
  });
  made.append(...question(first), make("div", "sides", "", sides));
  return made;
}

// The page
function controls(state) {
  const models = evaluations[state.on];
  for (const [id, chosen] of [["a", state.a], ["b", state.b], ["on", state.on]]) {
    for (const option of element(id).options) {
      if (id !== "on") option.disabled = option.value !== "" && !models.includes(option.value);
    }
    element(id).value = chosen;
  }
  if (document.activeElement !== element("search")) element("search").value = state.search;
  element("heading").textContent = state.on;
  const title = `${state.on}, ${state.b ? `${state.a} beside ${state.b}` : state.a}`;
  document.title = `${title} – ${main.dataset.title}`;
}
function choices(state, known, rows) {
  const labels = Object.entries(known).map(([name, [label, test]]) => {
    const input = make("input");
    input.type = "radio";
    input.name = "show";
    input.id = `show-${name}`;
    input.checked = name === state.show;
    input.addEventListener("change", () => go({ show: name }));
    return make("label", "", "", [input, ` ${label} `, make("small", "", count(rows.filter(test).length))]);
  });
  const focused = document.activeElement?.id;
  element("show").replaceChildren(make("legend", "", "Show"), ...labels);
  if (focused?.startsWith("show-")) element(focused)?.focus();
}
function pages(state, total) {
  const last = Math.max(1, Math.ceil(total / perPage));
  const near = Array.from({ length: last }, (_, index) => index + 1).filter((page) => page === 1 || page === last || Math.abs(page - state.page) <= 3);
  for (const nav of document.querySelectorAll("nav.pages")) {
    nav.replaceChildren(...(last === 1 ? [] : near.flatMap((page, place) => {
      const link = make(page === state.page ? "span" : "a", "", String(page));
      if (page === state.page) link.setAttribute("aria-current", "page");
      else link.href = address({ ...state, page });
      return place && page > near[place - 1] + 1 ? ["…", link] : [link];
    })));
  }
}
const both = (state, row) => Promise.all([["a", row.a], ["b", row.b]].filter(([side]) => state[side]).map(([side, position]) => (position === undefined ? null : sample(state[side], state.on, position))));
// Searching: only in scripts that may hold the text, by the sequences of three bytes in it (word_index.py).
const AT_ONCE = 10 * PER_FILE; // so that some files are loaded together
const FACTOR = 0x9E3779B1;
async function candidates(model, benchmark, wanted, buckets) {
  const bytes = new TextEncoder().encode(wanted);
  if (bytes.length < 3 || !buckets) return () => true;
  const bits = await part(model, benchmark, 0, "words", true);
  const width = bits.length / buckets;
  const left = new Uint8Array(width).fill(255);
  const shift = 32 - Math.log2(buckets);
  for (let at = 0; at + 2 < bytes.length; at++) {
    const three = (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2];
    const bucket = Math.imul(three, FACTOR) >>> shift;
    for (let file = 0; file < width; file++) left[file] &= bits[bucket * width + file];
  }
  return (position) => position !== undefined && (left[fileOf(position) >> 3] & (1 << (fileOf(position) & 7))) !== 0;
}
// What is searched of each question or answer of a script, in lower case. It is kept for the next search.
const MAX_CHARACTERS = 80_000_000;
const searchable = new Map();
let characters = 0;
async function searchTexts(folder, benchmark, number) {
  const name = `${folder}/${benchmark}~${number}`;
  const known = searchable.get(name);
  if (known) return known;
  const shown = loaded.has(`${name}.js`);
  const columns = await part(folder, benchmark, number);
  if (!shown) drop(`${name}.js`);
  const texts = Array.from({ length: columns.n }, (_, place) => {
    const { input, reference, id, choices = [], thoughts, output, scores = [] } = row(columns, place);
    return [input, reference, id, ...choices, thoughts, output, ...scores.map((score) => score.answer)].join("\0").toLowerCase();
  });
  if (searchable.has(name)) return searchable.get(name);
  searchable.set(name, texts);
  characters += sizeOf(texts);
  for (const oldest of searchable.keys()) {
    if (characters <= MAX_CHARACTERS) break;
    forget(oldest);
  }
  return texts;
}
const sizeOf = (texts) => texts.reduce((sum, text) => sum + text.length, 0);
function forget(name) {
  characters -= sizeOf(searchable.get(name));
  searchable.delete(name);
}
// From disk, all is read while the first samples are being looked at, as far as there is room, so that a search finds
// it in memory.
async function readAhead(state, rows, indexes, current) {
  for (const name of searchable.keys()) if (!name.includes(`/${state.on}~`)) forget(name);
  for (let from = 0; from < rows.length && current() && characters < 0.9 * MAX_CHARACTERS; from += AT_ONCE) {
    await textsOf(state, rows.slice(from, from + AT_ONCE), indexes);
    await new Promise((resolve) => setTimeout(resolve));
  }
}
// The questions and answers of some rows: for each row the texts of its script, and its place in them.
async function textsOf(state, rows, indexes) {
  const scripts = new Map();
  const at = (folder, position) => {
    const number = fileOf(position) + 1;
    const name = `${folder}/${number}`;
    if (!scripts.has(name)) scripts.set(name, searchTexts(folder, state.on, number).then((texts) => scripts.set(name, texts)));
    return () => scripts.get(name)[position % PER_FILE];
  };
  const wanted = rows.map(({ a, b }) => [
    at(QUESTIONS, a === undefined ? questionOf(indexes[1], b) : questionOf(indexes[0], a)),
    ...(a === undefined ? [] : [at(state.a, a)]),
    ...(b === undefined ? [] : [at(state.b, b)]),
  ]);
  await Promise.all(scripts.values());
  return wanted;
}
const asTheyLie = (rows) => rows.toSorted((one, other) => (one.a ?? one.b) - (other.a ?? other.b));
// In the order in which the answers lie in the scripts, so that each is loaded once. Calls `partly` with what was
// found so far, and with how much has been looked at.
async function searched(state, rows, indexes, current, partly) {
  if (!state.search) return rows;
  const wanted = state.search.toLowerCase();
  const may = await Promise.all(indexes.map((index, side) => candidates(state[side ? "b" : "a"], state.on, wanted, index.buckets)));
  const left = rows.filter((row) => may[0](row.a) || may[1]?.(row.b));
  const lying = asTheyLie(left);
  const found = new Set();
  for (let from = 0; from < lying.length && current(); from += AT_ONCE) {
    const some = lying.slice(from, from + AT_ONCE);
    const texts = await textsOf(state, some, indexes);
    some.forEach((row, which) => { if (texts[which].some((text) => text().includes(wanted))) found.add(row); });
    await partly(() => left.filter((row) => found.has(row)), found.size, (from + some.length) / lying.length);
  }
  return left.filter((row) => found.has(row));
}
let turn = 0;
async function show() {
  const mine = ++turn;
  const current = () => mine === turn;
  const state = read();
  if (!state) {
    element("count").textContent = "There are no samples.";
    return;
  }
  now = state;
  controls(state);
  const [a, b] = await Promise.all([part(state.a, state.on, 0), state.b ? part(state.b, state.on, 0) : null]);
  const said = state.b ? (await load("pairs", "pairs.js"))[state.on]?.[`${state.a}\t${state.b}`] : "";
  const binary = a.binary && (!b || b.binary);
  const all = b ? paired(a, b) : alone(a);
  const known = filters(state, binary);
  if (!known[state.show]) state.show = "all";
  const indexes = b ? [a, b] : [a];
  const fit = all.filter((row) => (state.q ? row.uid === state.q : known[state.show][1](row)));
  element("said").textContent = said ?? "";
  choices(state, known, all);
  if (state.search) element("count").textContent = "Searching …";
  let shownAt = 0;
  const found = await searched(state, fit, indexes, current, async (hits, n, share) => {
    if (!current() || share === 1) return;
    element("count").textContent = `Searching … ${count(n)} found in ${Math.round(100 * share)} %.`;
    if (shownAt || n < Math.min(perPage * state.page)) return;
    shownAt = share;
    await showPage(state, hits(), all.length, binary, indexes, current);
  });
  if (!current()) return;
  state.page = Math.min(state.page, Math.max(1, Math.ceil(found.length / perPage)));
  await showPage(state, found, all.length, binary, indexes, current);
  if (!current()) return;
  pages(state, found.length);
  main.dataset.shown = location.hash;
  if (location.protocol === "file:") await readAhead(state, asTheyLie(all), indexes, current);
}
async function showPage(state, found, total, binary, indexes, current) {
  const from = (state.page - 1) * perPage;
  const rows = found.slice(from, from + perPage);
  const shown = await Promise.all(rows.map((row) => both(state, row)));
  if (!current()) return;
  const range = found.length ? `Samples ${count(from + 1)}–${count(from + rows.length)} of ${count(found.length)}` : "No samples";
  element("count").textContent = `${range}${found.length < total ? `, ${count(total)} in all` : ""}. Keys: j next, k previous, / search.`;
  if (state.q) {
    const link = make("a", "", "Show all");
    link.href = address({ ...state, q: "", page: 1 });
    element("count").append(" ", link);
  }
  const made = JSON.stringify([state, rows.map((row) => [row.uid, row.repeat])]);
  if (main.dataset.made === made) return; // the first hits stand as they are
  main.dataset.made = made;
  main.replaceChildren(...rows.map((row, index) => article(state, row, shown[index], binary, indexes)));
}
function failed(error) {
  element("count").textContent = `The samples cannot be shown: ${error.message}`;
}
const start = () => show().catch(failed);

for (const id of ["a", "b", "on"]) element(id).addEventListener("change", () => go({ [id]: element(id).value, show: "" }));
let typed;
element("search").addEventListener("input", () => {
  clearTimeout(typed);
  typed = setTimeout(() => go({ search: element("search").value }), 200);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select")) return;
  if (event.key === "/") {
    event.preventDefault();
    element("search").focus();
  }
  if (event.key !== "j" && event.key !== "k") return;
  const articles = [...main.children];
  const here = articles.indexOf(document.activeElement.closest?.("article"));
  const next = articles[event.key === "j" ? here + 1 : Math.max(0, here - 1)];
  next?.focus();
  next?.scrollIntoView();
});
addEventListener("hashchange", () => {
  start();
  scrollTo(0, 0);
});
start();

"use strict";
// A rater's page. All texts are set as text; what is entered is kept in localStorage at every change.
const bytes = Uint8Array.from(atob(document.getElementById("data").textContent.trim()), (c) => c.charCodeAt(0));
const data = JSON.parse(new TextDecoder().decode(bytes));
const place = `slurmeval ${data.batch} ${data.rater}`;
const needed = data.scales.map((scale) => scale.name).filter((name) => name !== "confidence");
const $ = (id) => document.getElementById(id);
const said = load();
let at = 0;
let marked = 0;
let since = null;
let typing = false;

function load() {
  try {
    return JSON.parse(localStorage.getItem(place)) ?? {};
  } catch {
    return {};
  }
}

// What another tab of this page kept since is taken over, item by item, so that neither writes over the other's.
function merge() {
  for (const [item, kept] of Object.entries(load())) {
    if (kept.at > (said[item]?.at ?? "")) said[item] = Object.assign(said[item] ?? {}, kept);
  }
}

function takeOver() {
  merge();
  if (!typing) show();
}

function keep() {
  merge();
  try {
    localStorage.setItem(place, JSON.stringify(said));
    $("kept").textContent = "kept in this browser";
    $("kept").className = "";
  } catch {
    $("kept").textContent = "this browser keeps nothing: download before you close the page";
    $("kept").className = "bad";
  }
}

function current() {
  const item = data.items[at];
  said[item.item] ??= { values: {}, flags: [], comment: "", skipped: false, time_ms: 0, at: "" };
  return said[item.item];
}

function touch() {
  current().at = new Date().toISOString();
  count();
  keep();
  progress();
}

// Time counts while the page is seen.
function count() {
  const now = performance.now();
  if (since !== null) current().time_ms += now - since;
  since = document.hidden ? null : now;
}

function isDone(item) {
  const given = said[item.item];
  return Boolean(given) && (given.skipped || needed.every((name) => given.values[name] !== undefined));
}

function make(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function show() {
  const item = data.items[at];
  const given = current();
  const section = $("item");
  section.replaceChildren(make("h2", `${at + 1} of ${data.items.length}`));
  section.append(make("h3", "Question"), make("pre", item.question));
  if (item.choices) {
    const list = make("ol");
    list.append(...item.choices.map((choice) => make("li", choice)));
    section.append(list);
  }
  if (item.reference) section.append(make("h3", "Reference"), make("pre", item.reference));
  const answers = make("div", undefined, item.answers.length > 1 ? "sides" : "");
  item.answers.forEach((answer, index) => {
    const side = make("div");
    side.append(make("h3", item.answers.length > 1 ? `Answer ${"AB"[index]}` : "Answer"));
    side.append(make("pre", answer, "output"));
    answers.append(side);
  });
  section.append(answers, ...data.scales.map((scale, index) => line(scale, index, given)), more(given));
  progress();
}

function line(scale, index, given) {
  const row = make("fieldset", undefined, index === marked ? "scale marked" : "scale");
  row.append(make("legend", scale.question));
  for (const { value, key, text } of scale.values) {
    const button = make("button", text ? `${key.toUpperCase()} ${text}` : key);
    button.setAttribute("aria-pressed", String(given.values[scale.name] === value));
    button.addEventListener("click", () => choose(index, value));
    row.append(button);
  }
  return row;
}

function more(given) {
  const row = make("fieldset", undefined, "scale");
  const boxes = [...data.flags, { name: null, text: "cannot be rated" }];
  for (const flag of boxes) {
    const label = make("label");
    const box = make("input");
    box.type = "checkbox";
    box.checked = flag.name === null ? given.skipped : given.flags.includes(flag.name);
    box.addEventListener("change", () => {
      if (flag.name === null) given.skipped = box.checked;
      else given.flags = box.checked ? [...given.flags, flag.name] : given.flags.filter((n) => n !== flag.name);
      touch();
    });
    label.append(box, ` ${flag.text}`);
    row.append(label);
  }
  const comment = make("textarea");
  comment.id = "comment";
  comment.setAttribute("aria-label", data.kind === "pairwise" ? "Why?" : "Comment");
  comment.placeholder = data.kind === "pairwise" ? "Why?" : "Comment";
  comment.value = given.comment;
  comment.addEventListener("input", () => {
    given.comment = comment.value;
    touch();
  });
  comment.addEventListener("focus", () => { typing = true; });
  comment.addEventListener("blur", () => { typing = false; });
  row.append(comment);
  return row;
}

function choose(index, value) {
  current().values[data.scales[index].name] = value;
  marked = Math.min(index + 1, data.scales.length - 1);
  touch();
  show();
}

function progress() {
  const done = data.items.filter(isDone).length;
  $("progress").textContent = `${done} of ${data.items.length} rated`;
  $("bar").max = data.items.length;
  $("bar").value = done;
  $("done").hidden = done < data.items.length;
}

function go(to) {
  count();
  at = Math.max(0, Math.min(to, data.items.length - 1));
  marked = 0;
  typing = false;
  since = document.hidden ? null : performance.now();
  keep();
  show();
  $("item").scrollIntoView({ block: "nearest" });
}

function firstOpen() {
  const found = data.items.findIndex((item) => !isDone(item));
  return found < 0 ? data.items.length - 1 : found;
}

function download() {
  count();
  keep();
  const ratings = data.items
    .filter((item) => said[item.item]?.at)
    .map((item) => ({ item: item.item, sha256: item.sha256, ...said[item.item] }));
  const { format, batch, key_sha256, rater } = data;
  const content = { format, batch, key_sha256, rater, saved_at: new Date().toISOString(), ratings };
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 1)], { type: "application/json" }));
  link.download = `ratings-${data.rater}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape") $("comment").blur();
    return;
  }
  if (event.key === "Enter" && event.target.closest("button, summary, input")) return;
  const key = event.key.toLowerCase();
  // The marked line first, so that digits mean it; letters choose wherever they are unique
  const order = [marked, ...data.scales.keys()];
  const index = order.find((each) => data.scales[each].values.some((value) => value.key === key));
  const actions = {
    enter: () => go(isDone(data.items[at]) ? at + 1 : at),
    arrowright: () => go(at + 1),
    arrowleft: () => go(at - 1),
    arrowdown: () => { marked = Math.min(marked + 1, data.scales.length - 1); show(); },
    arrowup: () => { marked = Math.max(marked - 1, 0); show(); },
    c: () => $("comment").focus(),
    x: () => { current().skipped = !current().skipped; touch(); show(); },
    d: download,
  };
  const act = index === undefined ? actions[key]
    : () => choose(index, data.scales[index].values.find((value) => value.key === key).value);
  if (!act) return;
  event.preventDefault();
  act();
});
window.addEventListener("storage", (event) => { if (event.key === place) takeOver(); });
window.addEventListener("focus", takeOver);
document.addEventListener("visibilitychange", () => { count(); keep(); });
$("back").addEventListener("click", () => go(at - 1));
$("next").addEventListener("click", () => go(at + 1));
$("open").addEventListener("click", () => go(firstOpen()));
$("download").addEventListener("click", download);
if (Object.keys(said).length) $("guidelines").open = false;
go(firstOpen());

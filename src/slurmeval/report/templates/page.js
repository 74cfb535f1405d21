"use strict";
// Sorting a table by a click on a column's head. Numbers are in data-value; what has none goes last.
for (const button of document.querySelectorAll("th > button")) {
  button.addEventListener("click", () => {
    const head = button.parentElement;
    const table = head.closest("table");
    const body = table.tBodies[0];
    const column = head.cellIndex;
    const numeric = head.classList.contains("num");
    const before = head.getAttribute("aria-sort");
    const down = before ? before === "ascending" : numeric;
    for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = [...body.rows].map((row) => {
      const cell = row.cells[column];
      const given = cell.dataset.value;
      return { row, key: numeric ? (given ? Number(given) : null) : (given ?? cell.textContent.trim()) };
    });
    keyed.sort((a, b) => {
      if (a.key === null || b.key === null) return (a.key === null) - (b.key === null);
      const order = numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true });
      return down ? -order : order;
    });
    body.append(...keyed.map(({ row }) => row));
  });
}

// Of the matrices of pairs one is shown: the one that is chosen.
const chosen = document.getElementById("pairs-on");
if (chosen) {
  const matrices = [...document.querySelectorAll(".matrix")];
  const show = () => matrices.forEach((matrix, index) => { matrix.hidden = index !== Number(chosen.value); });
  chosen.addEventListener("change", show);
  document.documentElement.classList.add("choosing");
  show();
}

// Which p counts as evidence: what is filled, what is marked, and the smallest difference that would be seen are
// worked out again from the p-values in the cells. Intervals stay those of 95 %.
const alpha = document.getElementById("alpha");
if (alpha) {
  const cells = [...document.querySelectorAll(".pairs td[data-p]")].map((cell) => {
    const verdict = ["better", "worse", "equivalent"].find((name) => cell.classList.contains(name)) ?? "";
    return { cell, verdict, mark: cell.querySelector(".mark") };
  });
  const own = alpha.selectedIndex;
  const signs = { better: "▲", worse: "▼", equivalent: "=" };
  alpha.addEventListener("change", () => {
    const limit = Number(alpha.value);
    const option = alpha.selectedOptions[0];
    for (const { cell, verdict, mark } of cells) {
      const sign = Number(cell.dataset.sign);
      const seen = Number(cell.dataset.p) < limit && sign ? (sign > 0 ? "better" : "worse") : "";
      const now = alpha.selectedIndex === own || verdict === "equivalent" ? verdict : seen;
      cell.classList.remove("better", "worse", "equivalent", "cannot-tell", "sure");
      cell.classList.add(now || "cannot-tell");
      cell.classList.toggle("sure", Number(cell.dataset.holm) < limit);
      mark.textContent = signs[now] ?? "";
    }
    for (const shown of document.querySelectorAll(".alpha")) shown.textContent = option.textContent;
    for (const shown of document.querySelectorAll(".detectable")) {
      shown.textContent = (Number(shown.dataset.value) * Number(option.dataset.factor)).toFixed(3);
    }
  });
  document.documentElement.classList.add("choosing");
}

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

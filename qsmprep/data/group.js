"use strict";
(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const dots = new Map();
  for (const circle of all("circle[data-r]")) {
    const run = circle.dataset.r;
    if (!dots.has(run)) dots.set(run, []);
    dots.get(run).push(circle);
  }

  // Filters: a line stays when it holds every word; dots of runs whose line is gone fade.
  for (const input of all("input[data-filters]")) {
    const rows = all("tbody tr", document.getElementById(input.dataset.filters));
    const texts = rows.map((row) => row.textContent.toLowerCase() +
      all("abbr", row).map((part) => ` ${part.title}`).join("").toLowerCase());
    const told = input.parentElement.querySelector("output");
    input.parentElement.hidden = false;
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, i) => {
        const fits = words.every((word) => texts[i].includes(word));
        row.hidden = !fits;
        shown += fits;
        for (const circle of dots.get(row.dataset.r) || []) circle.classList.toggle("off", !fits);
      });
      told.textContent = words.length ? `${shown} of ${rows.length}` : "";
    };
    input.addEventListener("input", filter);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { input.value = ""; filter(); }
    });
    filter();
  }

  // Sorting by a click on a heading: by the cells' keys where they have one, else by their text.
  for (const table of all("table.sortable")) {
    const heads = all("thead th", table);
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.title = "Sort";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        const key = (row) => row.cells[column].dataset.key || row.cells[column].textContent.trim();
        const body = table.tBodies[0];
        const rows = all("tr", body).sort((a, b) => key(a).localeCompare(key(b), "en", { numeric: true }));
        if (down) rows.reverse();
        body.append(...rows);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      });
    });
  }

  // A run that is pointed at is marked in every plot and in the table.
  const lines = new Map(all("tr[data-r]").map((row) => [row.dataset.r, row]));
  let lit = [];
  const mark = (event) => {
    const part = event.target instanceof Element ? event.target : null;
    const own = part && (part.closest("[data-r]") || part.querySelector(":scope > [data-r]"));
    lit.forEach((element) => element.classList.remove("lit"));
    lit = own ? [...(dots.get(own.dataset.r) || []), lines.get(own.dataset.r)].filter(Boolean) : [];
    lit.forEach((element) => element.classList.add("lit"));
  };
  document.addEventListener("pointerover", mark);
  document.addEventListener("focusin", mark);
})();

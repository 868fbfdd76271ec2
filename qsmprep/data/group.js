"use strict";
const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
const data = JSON.parse(document.getElementById("data").textContent);
const dots = new Map(); // number of a run -> its marks in all plots
const remember = (root) => all("[data-r]", root).forEach((mark) => {
  const run = mark.dataset.r;
  if (!dots.has(run)) dots.set(run, []);
  dots.get(run).push(mark);
});
const hiddenRuns = new Set();
// Plots are drawn when they come near the window, where there are so many runs that all at once would take long.
const whenSeen = (elements, draw) => {
  const left = new Set(elements);
  const take = (element) => { if (left.delete(element)) draw(element); };
  if (data.runs.length <= 200) { elements.forEach(take); return; }
  const watcher = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => take(entry.target));
  }, { rootMargin: "400px" });
  elements.forEach((element) => watcher.observe(element));
  addEventListener("beforeprint", () => [...left].forEach(take));
};
const svg = (name, attributes, ...content) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...content);
  return element;
};
const inWords = (value) => {
  if (value === null || value === undefined) return "";
  const text = Math.abs(value) < 1000 ? Number(value.toPrecision(3)).toString() : Math.round(value).toString();
  return text.replace(/-/g, "−");
};

(() => {
  // Strip plots hold the dots that stand out; the others stand in the drawing as run, x and y.
  whenSeen(all("figure.strip"), (figure) => {
    const place = figure.querySelector(".dots"), numbers = place.dataset.dots.split(" ").filter(Boolean), drawn = [];
    for (let k = 0; k < numbers.length; k += 3) {
      const [run, cx, cy] = numbers.slice(k, k + 3);
      drawn.push(svg("circle", { "data-r": run, cx, cy, r: 3 }));
    }
    place.prepend(...drawn);
    remember(figure);
    for (const mark of all("[data-r]", place)) mark.classList.toggle("off", hiddenRuns.has(mark.dataset.r));
  });
  const table = document.getElementById("run-table");
  const rows = all("tbody tr", table);

  // Of a thousand lines the first are laid out, and more as the table is scrolled or tabbed through.
  const PART = 150, region = table.parentElement;
  let reach = PART, order = rows;
  const lay = () => {
    let place = 0;
    for (const row of order) if (!row.hidden) { row.classList.toggle("later", place >= reach); place += 1; }
    table.classList.add("laid");
  };
  const layMore = () => {
    if (reach > rows.length || region.scrollTop + region.clientHeight < region.scrollHeight - 600) return;
    reach += PART;
    lay();
  };
  const layFirst = () => { reach = PART; region.scrollTop = 0; lay(); };
  region.addEventListener("scroll", layMore, { passive: true });
  // On paper every line is there, with what its words stand for.
  let folded = [];
  addEventListener("beforeprint", () => {
    reach = Infinity;
    lay();
    folded = all("details:not([open])", table);
    for (const fold of folded) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of folded) fold.open = false; });

  // What leaves lines of a table: every word of a text must be in a line.
  const holds = (texts, text) => {
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    return (place) => words.every((word) => texts[place].includes(word));
  };
  const textsOf = (lines) => lines.map((line) =>
    `${line.textContent} ${all("abbr", line).map((part) => part.title).join(" ")}`.toLowerCase());
  const whenTyped = (input, filter) => {
    input.addEventListener("input", filter);
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") { input.value = ""; filter(); }
    });
  };
  for (const input of all("input[data-filters]")) {
    const lines = all("tbody tr", document.getElementById(input.dataset.filters));
    const texts = textsOf(lines), told = input.parentElement.querySelector("output");
    input.parentElement.hidden = false;
    whenTyped(input, () => {
      const fits = holds(texts, input.value);
      let shown = 0;
      lines.forEach((line, place) => { line.hidden = !fits(place); shown += !line.hidden; });
      told.textContent = input.value.trim() ? `${shown} of ${lines.length}` : "";
    });
  }

  // The runs: text, verdict, word, scanner and site together; marks of runs whose line is gone fade.
  const tools = document.getElementById("run-tools"), find = document.getElementById("filter-runs");
  const selects = all("select[data-of]", tools);
  let texts = null;
  const filterRuns = () => {
    if (find.value.trim()) texts = texts || textsOf(rows); // a thousand lines are read when they are asked for
    const fits = holds(texts, find.value), chosen = selects.filter((select) => select.value !== "");
    let changed = false;
    rows.forEach((row, place) => {
      const stays = fits(place) &&
        chosen.every((select) => row.dataset[select.dataset.of].split(" ").includes(select.value));
      if (row.hidden !== stays) return;
      row.hidden = !stays;
      changed = true;
      if (stays) hiddenRuns.delete(row.dataset.r); else hiddenRuns.add(row.dataset.r);
      for (const mark of dots.get(row.dataset.r) || []) mark.classList.toggle("off", !stays);
    });
    if (changed) layFirst();
    document.getElementById("shown").textContent =
      `${(rows.length - hiddenRuns.size).toLocaleString("en")} of ${rows.length.toLocaleString("en")} runs shown`;
  };
  const showAll = () => {
    find.value = "";
    selects.forEach((select) => { select.value = ""; });
    filterRuns();
  };
  tools.hidden = false;
  whenTyped(find, filterRuns);
  selects.forEach((select) => select.addEventListener("change", filterRuns));
  document.getElementById("show-all").addEventListener("click", showAll);
  for (const badge of all("a[data-verdict]")) {
    badge.addEventListener("click", () => {
      showAll();
      selects.find((select) => select.dataset.of === "v").value = badge.dataset.verdict;
      filterRuns();
    });
  }
  lay();
  filterRuns();

  // Sorting by a heading, worst or smallest first; where a run has no value it comes last either way.
  const collator = new Intl.Collator("en", { numeric: true });
  const heads = all("thead th", table), body = table.tBodies[0], choice = document.getElementById("sort-runs");
  const keysOf = (head, column) => rows.map((row) => {
    if (head.dataset.metric) return data.metrics[head.dataset.metric].values[row.dataset.r];
    return row.cells[column].dataset.key || row.cells[column].textContent.trim() || null;
  });
  const sortBy = (column, down) => {
    const head = heads[column], keys = keysOf(head, column);
    const missing = (place) => keys[place] === null || keys[place] === undefined;
    const compare = (a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b);
      const larger = head.dataset.metric ? keys[a] - keys[b] : collator.compare(keys[a], keys[b]);
      return down ? -larger : larger;
    };
    order = rows.map((_, place) => place).sort(compare).map((place) => rows[place]);
    layFirst();
    body.append(...order);
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    choice.value = String(column);
  };
  heads.forEach((head, column) => {
    if (head.dataset.sort === "no") return;
    const button = document.createElement("button"), first = head.dataset.sort === "most";
    button.type = "button";
    button.textContent = head.textContent;
    button.title = "Sort";
    head.replaceChildren(button);
    const sorted = head.getAttribute("aria-sort");
    choice.append(new Option(button.textContent, column, Boolean(sorted), Boolean(sorted)));
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sortBy(column, now ? now === "ascending" : first);
    });
  });
  choice.addEventListener("change", () => {
    const column = Number(choice.value);
    sortBy(column, heads[column].dataset.sort === "most");
  });

  // On a narrow screen a run is a card, whose values need the names that the headings have elsewhere.
  const narrow = matchMedia("(max-width: 700px)");
  const name = () => {
    if (!narrow.matches) return;
    const names = heads.map((head) => head.textContent);
    for (const row of rows) for (const [place, cell] of Array.from(row.cells).entries()) cell.dataset.name = names[place];
    narrow.removeEventListener("change", name);
  };
  narrow.addEventListener("change", name);
  name();

  // An ordinary dot of a strip plot learns what it tells and where it leads when it is pointed at.
  const dress = (dot) => {
    const plot = dot.closest("figure.strip"), run = dot.dataset.r;
    if (!plot || dot.firstChild) return;
    const { unit, values } = data.strips[plot.id];
    dot.append(svg("title", {}, `${data.runs[run]}: ${inWords(values[run])} ${unit}; ${data.verdicts[run]}`.replace(" ;", ";")));
    if (!data.pages[run]) return;
    const link = svg("a", { href: data.pages[run], tabindex: "-1" });
    dot.replaceWith(link);
    link.append(dot);
  };

  // A run that is pointed at is marked in every plot and in the table.
  const lines = new Map(rows.map((row) => [row.dataset.r, row]));
  let lit = [];
  const light = (event) => {
    const part = event.target instanceof Element ? event.target : null;
    const own = part && (part.closest("[data-r]") || part.querySelector(":scope > [data-r]"));
    lit.forEach((element) => element.classList.remove("lit"));
    lit = own ? [...(dots.get(own.dataset.r) || []), lines.get(own.dataset.r)].filter(Boolean) : [];
    lit.forEach((element) => element.classList.add("lit"));
    if (own && own.localName === "circle") dress(own);
  };
  document.addEventListener("pointerover", light);
  document.addEventListener("focusin", light);
})();

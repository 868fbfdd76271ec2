// Quality numbers over the time: a plot for each main number and one for any other, marks by scanner or site.
(() => {
  const home = document.getElementById("trend-plots");
  if (!home) return;
  const WIDTH = 440, HEIGHT = 196, LEFT = 46, RIGHT = 430, TOP = 8, BOTTOM = 164;
  const FARTHEST = 12; // robust spreads from the median at which the axis ends, as in the strip plots
  const SHAPES = [
    "M-3.3 0a3.3 3.3 0 1 0 6.6 0a3.3 3.3 0 1 0-6.6 0Z", "M-3-3H3V3H-3Z", "M0-4L3.9 2.9H-3.9Z", "M0-4.3L4.3 0L0 4.3L-4.3 0Z",
    "M0 4L3.9-2.9H-3.9Z", "M-1.3-4H1.3V-1.3H4V1.3H1.3V4H-1.3V1.3H-4V-1.3H-1.3Z", "M-4-2H4V2H-4Z", "M-2-4H2V4H-2Z",
  ];
  const groupSelect = document.getElementById("trend-group");
  const main = data.metrics.filter((metric) => metric.main !== null).sort((a, b) => a.main - b.main);
  const others = data.metrics.filter((metric) => metric.main === null);
  let other = others[0];

  const html = (name, className, ...content) => {
    const element = document.createElement(name);
    element.className = className;
    element.append(...content);
    return element;
  };
  const middle = (values) => {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  };
  const kind = () => (groupSelect ? groupSelect.value : "scanner");
  const look = (group) => ({ d: SHAPES[(group + (group >> 3)) % 8], class: `g${group % 8}` });
  const date = (day, hours) => new Date(day * 864e5).toISOString().slice(0, hours ? 16 : 10).replace("T", " ");

  const ends = (metric, values) => {
    const median = middle(values), spread = 1.4826 * middle(values.map((value) => Math.abs(value - median)));
    let low = Math.min(...values), high = Math.max(...values);
    if (spread > 0) [low, high] = [Math.max(low, median - FARTHEST * spread), Math.min(high, median + FARTHEST * spread)];
    const span = high - low || Math.abs(median) || 1;
    const near = metric.limits.filter((v) => v !== null && v > low - 0.4 * span && v < high + 0.4 * span);
    [low, high] = [Math.min(low, ...near), Math.max(high, ...near)];
    const margin = 0.06 * (high - low) || 0.5 * (Math.abs(median) || 1);
    return { low: low - margin, high: high + margin, near };
  };
  const ticks = (low, high) => {
    const rough = (high - low) / 4, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
    const found = [];
    for (let k = Math.ceil(low / step); k * step <= high; k += 1) found.push(k * step);
    return found;
  };
  const running = (points) => {
    const sorted = [...points].sort((a, b) => a.day - b.day), half = Math.max(2, Math.round(sorted.length / 20));
    if (sorted.length < 20) return [];
    const step = Math.max(1, Math.floor(sorted.length / 60)), line = [];
    for (let k = 0; k < sorted.length; k += step) {
      const near = sorted.slice(Math.max(0, k - half), k + half + 1);
      line.push([sorted[k].day, middle(near.map((point) => point.value))]);
    }
    return line;
  };

  const days = data.days.filter((day) => day !== null);
  const range = { first: Math.min(...days), last: Math.max(...days) };
  if (range.last - range.first < 1e-3) { range.first -= 0.5; range.last += 0.5; }
  const hours = range.last - range.first < 3;
  const x = (day) => LEFT + 6 + ((day - range.first) / (range.last - range.first)) * (RIGHT - LEFT - 12);

  const words = (metric, run) => {
    const told = `${inWords(metric.values[run])} ${metric.unit}; ${data.groups[kind()][data[kind()][run]]}; ${data.verdicts[run]}`;
    return `${data.runs[run]}, ${date(data.days[run], hours)}: ${told.replace(" ;", ";")}`;
  };
  const mark = (metric, { run, day, value }, y, far, flagged) => {
    const { d, class: colour } = look(data[kind()][run]);
    const state = flagged.has(run) ? " flagged" : far.has(run) ? " outlier" : "";
    const shape = svg("path", {
      d, class: `${colour}${state}${hiddenRuns.has(String(run)) ? " off" : ""}`, "data-r": run,
      transform: `translate(${x(day).toFixed(1)} ${y(value).toFixed(1)})`,
    });
    if (!data.pages[run]) return shape;
    return svg("a", { href: data.pages[run], ...(state ? { "aria-label": words(metric, run) } : { tabindex: "-1" }) }, shape);
  };

  const plot = (metric) => {
    const points = metric.values.map((value, run) => ({ value, run, day: data.days[run] }))
      .filter((point) => point.value !== null && point.day !== null);
    if (!points.length) return html("p", "small", "No run with a date has this number.");
    const { low, high, near } = ends(metric, points.map((point) => point.value));
    const inside = (value) => Math.min(Math.max(value, low), high);
    const y = (value) => BOTTOM - ((inside(value) - low) / (high - low)) * (BOTTOM - TOP);
    const far = new Set(metric.far), flagged = new Set(metric.flagged);
    const plain = (point) => !far.has(point.run) && !flagged.has(point.run);
    const grid = svg("g", { class: "grid" }), axis = svg("g", { class: "axis" });
    for (const tick of ticks(low, high)) {
      grid.append(svg("line", { x1: LEFT, x2: RIGHT, y1: y(tick), y2: y(tick) }));
      axis.append(svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, inWords(tick)));
    }
    for (const share of hours ? [0, 1] : [0, 1 / 3, 2 / 3, 1]) {
      const day = range.first + share * (range.last - range.first);
      const place = share === 0 ? [LEFT, "start"] : share === 1 ? [RIGHT, "end"] : [x(day), "middle"];
      axis.append(svg("text", { x: place[0], y: BOTTOM + 18, "text-anchor": place[1] }, date(day, hours)));
    }
    axis.append(svg("path", { d: `M${LEFT} ${BOTTOM}H${RIGHT}` }));
    const drawing = svg("svg", {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group",
      "aria-label": `${metric.title} over the time: ${points.length} runs, median ${inWords(middle(points.map((p) => p.value)))} ${metric.unit}`,
    }, grid, axis);
    for (const limit of near) drawing.append(svg("path", { class: "limit", d: `M${LEFT} ${y(limit)}H${RIGHT}` }));
    // Those that stand out are drawn last.
    const marks = (shown) => svg("g", { class: "marks" }, ...shown.map((point) => mark(metric, point, y, far, flagged)));
    drawing.append(marks(points.filter(plain)));
    data.groups[kind()].forEach((_, group) => {
      const line = running(points.filter((point) => data[kind()][point.run] === group));
      const d = `M${line.map(([day, value]) => `${x(day).toFixed(1)} ${y(value).toFixed(1)}`).join("L")}`;
      if (line.length) drawing.append(svg("path", { d, class: "halo" }), svg("path", { d, class: `running s${group % 8}` }));
    });
    drawing.append(marks(points.filter((point) => !plain(point))));
    // What a mark tells it learns when it is pointed at.
    drawing.addEventListener("pointerover", ({ target }) => {
      if (target.dataset.r && !target.firstChild) target.append(svg("title", {}, words(metric, Number(target.dataset.r))));
    });
    return drawing;
  };

  const heading = (metric) => {
    const head = html("h4", "", metric.title), unit = html("span", "unit", metric.unit);
    return html("figcaption", "", head, " ", unit);
  };
  const chooser = () => {
    const select = document.createElement("select");
    select.id = "trend-number";
    for (const [place, metric] of others.entries()) {
      const chosen = metric === other;
      select.append(new Option(metric.title + (metric.unit ? ` (${metric.unit})` : ""), place, chosen, chosen));
    }
    select.addEventListener("change", () => {
      other = others[select.value];
      draw();
      document.getElementById("trend-number").focus();
    });
    return html("figcaption", "", html("label", "", "Another number: ", select));
  };
  const legend = () => {
    const items = data.groups[kind()].map((name, group) => html("li", "", svg("svg", {
      viewBox: "-6 -6 12 12", width: 14, height: 14, "aria-hidden": "true", class: "marks",
    }, svg("path", look(group))), ` ${name}`));
    document.getElementById("legend").replaceChildren(...items);
  };
  function draw() {
    for (const [run, marks] of dots) dots.set(run, marks.filter((part) => part.localName === "circle"));
    const figures = main.map((metric) => html("figure", "trend", heading(metric), plot(metric)));
    if (other) figures.push(html("figure", "trend", chooser(), plot(other)));
    home.replaceChildren(...figures);
    remember(home);
    legend();
  }
  if (groupSelect) {
    document.getElementById("trend-tools").hidden = false;
    groupSelect.addEventListener("change", draw);
  }
  legend();
  whenSeen([home], draw);
})();

// Sliders, switches and keys of the viewer.
import { changeSpeed, flip, toggleRunning } from "./compare.js";
import { signed } from "./readout.js";

const ZOOM = 0.25; // step of the zoom keys
const SUFFIXES = ["", "-2"]; // of the ids that belong to the first map and to the second
const $ = (id) => document.getElementById(id);

/** Connect everything a person can turn or press to what it does. */
export function setUpControls(actions) {
  const { view, act } = actions;
  SUFFIXES.forEach((suffix, i) => {
    for (const end of ["low", "high"]) {
      for (const input of [$(`${end}${suffix}`), $(`${end}-number${suffix}`)]) {
        input.addEventListener("input", () => act.window(view.panes[i], changed(view.panes[i].map, end, input.valueAsNumber)));
      }
    }
    $(`window-reset${suffix}`).addEventListener("click", () => act.window(view.panes[i], view.panes[i].map.first));
  });
  for (const name of ["fill", "fill-regions"]) $(name).addEventListener("input", act.redraw);
  for (const name of ["radiological", "crosshair", "smooth"]) $(name).addEventListener("change", act.display);
  $("zoom").addEventListener("input", () => act.zoom($("zoom").valueAsNumber));
  for (const button of $("planes").children) button.addEventListener("click", () => act.plane(button.dataset.plane));
  $("second").addEventListener("change", () => act.second(view.maps[$("second").value]));
  for (const mode of ["side", "flicker"]) $(mode).addEventListener("click", () => act.toggle(mode));
  $("interval").addEventListener("input", changeSpeed);
  $("running").addEventListener("click", toggleRunning);
  // In the capture phase, since NiiVue has keys of its own on the canvas.
  for (const kind of ["keydown", "keyup"]) {
    document.addEventListener(kind, (event) => onKey(event, actions), { capture: true });
  }
}

/** Show the window of a pane's map on its sliders and its scale. */
export function showWindow({ map, suffix }) {
  const [low, high] = map.window;
  const [least, most] = [Math.min(map.range[0], low), Math.max(map.range[1], high)];
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(map.first[1] - map.first[0]))));
  const step = 10 ** -digits;
  for (const [end, value] of [["low", low], ["high", high]]) {
    const text = value.toFixed(digits);
    const [slider, number] = [$(`${end}${suffix}`), $(`${end}-number${suffix}`)];
    Object.assign(slider, { min: Math.floor(least / step) * step, max: Math.ceil(most / step) * step, step, value: text });
    slider.setAttribute("aria-valuetext", `${text} ${map.unit}`);
    number.step = step;
    if (document.activeElement !== number) number.value = text;
    $(`scale-${end}${suffix}`).textContent = signed(text);
  }
  $(`scale-unit${suffix}`).textContent = map.unit;
}

/** Light or dark as the system says until the button is pressed. */
export function setUpTheme() {
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
    document.documentElement.dataset.theme = dark ? "light" : "dark";
  });
}

/** The window after one end was moved; the ends never meet. */
function changed(map, end, value) {
  if (!Number.isFinite(value)) return map.window;
  const least = (map.first[1] - map.first[0]) / 100;
  const [low, high] = map.window;
  return end === "low" ? [Math.min(value, high - least), high] : [low, Math.max(value, low + least)];
}

function onKey(event, { view, act }) {
  const { target, key, code } = event;
  const onSlices = view.panes.some(({ canvas }) => target === canvas);
  if (onSlices) event.stopPropagation();
  const typing = target.matches("input[type=number], select");
  if (event.type !== "keydown" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  const far = event.shiftKey ? 10 : 1;
  const moves = {
    ArrowLeft: [-far, 0, 0],
    ArrowRight: [far, 0, 0],
    ArrowUp: [0, far, 0],
    ArrowDown: [0, -far, 0],
    PageUp: [0, 0, far],
    PageDown: [0, 0, -far],
  };
  const letters = {
    a: () => act.plane("axial"),
    c: () => act.plane("coronal"),
    s: () => act.plane("sagittal"),
    m: () => act.plane("all"),
    b: () => act.toggle("side"),
    f: () => act.toggle("flicker"),
    o: act.toggleOverlays,
    r: () => $("radiological").click(),
    x: () => $("crosshair").click(),
    w: () => act.shown().forEach((pane) => act.window(pane, pane.map.first)),
    "+": () => turn($("zoom"), ZOOM),
    "-": () => turn($("zoom"), -ZOOM),
  };
  const digit = Number(/^Digit([1-9])$/.exec(code)?.[1] ?? (/^[1-9]$/.test(key) ? key : 0)); // whatever Shift makes of it
  const free = onSlices || target === document.body; // where Space presses no button
  const letter = letters[key.toLowerCase()];
  if (digit) (event.shiftKey ? act.second : act.show)(view.maps[digit - 1]);
  else if (key === " " && free && view.compare === "flicker") flip();
  else if (onSlices && moves[key]) act.move(...moves[key]);
  else if (letter && view.panes[0].map) letter();
  else return;
  event.preventDefault();
}

function turn(slider, by) {
  slider.value = slider.valueAsNumber + by;
  slider.dispatchEvent(new Event("input"));
}

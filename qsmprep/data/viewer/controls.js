// Sliders, switches and keys of the viewer.

const ZOOM = 0.25; // step of the zoom keys
const LINE = 1.6; // pixels that the crosshair is wide
const $ = (id) => document.getElementById(id);

/** Connect everything a person can turn or press to what it does. */
export function setUpControls(actions) {
  const { view, redraw, applyWindow } = actions;
  const { nv } = view;
  for (const end of ["low", "high"]) {
    for (const input of [$(end), $(`${end}-number`)]) {
      input.addEventListener("input", () => applyWindow(changed(view.map, end, input.valueAsNumber)));
    }
  }
  $("window-reset").addEventListener("click", () => applyWindow(view.map.first));
  $("fill").addEventListener("input", redraw);
  $("radiological").addEventListener("change", () => {
    nv.setRadiologicalConvention($("radiological").checked);
    nv.drawScene();
  });
  $("crosshair").addEventListener("change", () => fitCrosshair(nv));
  $("smooth").addEventListener("change", () => nv.setInterpolation(!$("smooth").checked));
  $("zoom").addEventListener("input", () => zoom(nv, $("zoom").valueAsNumber));
  new ResizeObserver(() => fitCrosshair(nv)).observe($("slices"));
  // NiiVue turns the window with the right button itself, without a word to us.
  $("slices").addEventListener("mousemove", ({ buttons }) => {
    if (buttons & 2 && view.map) applyWindow([nv.volumes[0].cal_min, nv.volumes[0].cal_max]);
  });
  // In the capture phase, since NiiVue has keys of its own on the canvas.
  for (const kind of ["keydown", "keyup"]) {
    document.addEventListener(kind, (event) => onKey(event, actions), { capture: true });
  }
}

/** Show the window of a map on the sliders and the scale. */
export function showWindow(map) {
  const [low, high] = map.window;
  const [least, most] = [Math.min(map.range[0], low), Math.max(map.range[1], high)];
  const digits = Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(map.first[1] - map.first[0]))));
  const step = 10 ** -digits;
  for (const [end, value] of [["low", low], ["high", high]]) {
    const text = value.toFixed(digits);
    Object.assign($(end), { min: Math.floor(least / step) * step, max: Math.ceil(most / step) * step, step, value: text });
    $(end).setAttribute("aria-valuetext", `${text} ${map.unit}`);
    $(`${end}-number`).step = step;
    if (document.activeElement !== $(`${end}-number`)) $(`${end}-number`).value = text;
    $(`scale-${end}`).textContent = text.replace("-", "−");
  }
  $("scale-unit").textContent = map.unit;
}

/** Give the slices a frame of their own proportions: in a row where there is room, else two by two. */
export function fitFrame(image) {
  const [x, y, z] = [1, 2, 3].map((axis) => image.dimsRAS[axis] * image.pixDimsRAS[axis]);
  const style = $("slices").parentElement.style;
  style.setProperty("--row", (2 * x + y) / Math.max(y, z));
  style.setProperty("--grid", (x + y) / (y + z));
}

/** The crosshair is as wide on every screen; NiiVue counts in mm of the head. */
export function fitCrosshair(nv) {
  const slice = nv.screenSlices[0];
  if (!slice) return;
  const perPixel = Math.abs(slice.fovMM[0] / slice.leftTopWidthHeight[2]) * nv.uiData.dpr;
  nv.opts.crosshairGap = 4 * LINE * perPixel;
  nv.setCrosshairWidth($("crosshair").checked ? LINE * perPixel : 0);
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

/** Zoom so that the crosshair stays where it is on the screen. */
function zoom(nv, factor) {
  const [x, y, z] = nv.frac2mm(nv.scene.crosshairPos, 0, nv.opts.isSliceMM);
  const [px, py, pz, before] = nv.scene.pan2Dxyzmm;
  const more = before - factor;
  nv.setPan2Dxyzmm([px + more * x, py + more * y, pz + more * z, factor]);
  if (factor === 1) nv.setPan2Dxyzmm([0, 0, 0, 1]);
  fitCrosshair(nv);
}

function onKey(event, { show, move, toggleOverlays, view, applyWindow }) {
  const { target, key } = event;
  const onSlices = target === $("slices");
  if (onSlices) event.stopPropagation();
  const typing = target.matches("input[type=number]");
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
    m: toggleOverlays,
    r: () => $("radiological").click(),
    c: () => $("crosshair").click(),
    w: () => applyWindow(view.map.first),
    "+": () => turn($("zoom"), ZOOM),
    "-": () => turn($("zoom"), -ZOOM),
  };
  const letter = letters[key.toLowerCase()];
  if (/^[1-9]$/.test(key)) show(Number(key) - 1);
  else if (onSlices && moves[key]) move(...moves[key]);
  else if (letter && view.map) letter();
  else return;
  event.preventDefault();
}

function turn(slider, by) {
  slider.value = slider.valueAsNumber + by;
  slider.dispatchEvent(new Event("input"));
}

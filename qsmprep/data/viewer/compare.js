// Two maps at once: side by side, or one behind the other and flickered. They share crosshair, planes and zoom.

const $ = (id) => document.getElementById(id);
const flicker = { timer: 0, back: 0 }; // which pane is behind

/** Lay the panes out: "none", "side" or "flicker". */
export function layOut(mode) {
  $("panes").dataset.compare = mode;
  for (const id of ["pane-2", "window-2-section", "value-2-line"]) $(id).hidden = mode === "none";
  $("flicker-line").hidden = mode !== "flicker";
  for (const id of ["side", "flicker"]) $(id).setAttribute("aria-pressed", String(mode === id));
  stop();
  putBehind(1);
  // Who asked the system for less motion starts it by hand.
  if (mode === "flicker" && !matchMedia("(prefers-reduced-motion: reduce)").matches) run();
}

/** Change which map is seen, once. */
export function flip() {
  stop();
  putBehind(1 - flicker.back);
}

/** Begin to flicker, or hold. */
export function toggleRunning() {
  if (flicker.timer) stop();
  else run();
}

/** Flicker as fast as the slider says, if it flickers. */
export function changeSpeed() {
  $("interval").setAttribute("aria-valuetext", `${$("interval").value} s`);
  $("interval-words").textContent = `${$("interval").value} s`;
  if (flicker.timer) run();
}

function run() {
  stop();
  flicker.timer = setInterval(() => putBehind(1 - flicker.back), 1000 * $("interval").valueAsNumber);
  $("running").textContent = "Hold";
}

function stop() {
  clearInterval(flicker.timer);
  flicker.timer = 0;
  $("running").textContent = "Run";
}

/** In flicker mode the pane of this number, 0 or 1, is not seen; it stays drawn, so that nothing has to be loaded. */
function putBehind(back) {
  flicker.back = back;
  $("pane-1").classList.toggle("behind", back === 0);
  $("pane-2").classList.toggle("behind", back === 1);
}

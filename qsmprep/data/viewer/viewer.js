// The page of one run: its maps, overlays and crosshair. Texts of the data reach the page as text only.
import { readAddress, writeAddress } from "./address.js";
import { layOut } from "./compare.js";
import { setUpControls, setUpTheme, showWindow } from "./controls.js";
import { crosshair, draw, drawWindow, fitCrosshair, fitFrame, makePane, putCrosshair, showPlane, zoomAs, zoomAt } from "./pane.js";
import { fullName, readOut } from "./readout.js";
import { asLabels, cutOutside, middleOf, placeInSlice, placeOf, rangeOf, readImage, sameGrid, voxelAt, windowOf } from "./volumes.js";

const KEPT = 6; // maps held in memory; a long list of large maps must not fill it
const HIDDEN = 0.001; // as good as transparent; NiiVue leaves a layer of 0 out, its outline included
const OUTLINED = 0.15; // how much stronger the outline of a filled region is than its inside
const ADDRESS_MS = 250; // browsers refuse to change the address all the time
const ROOT = "../"; // addresses in the run's document are relative to the output folder

const $ = (id) => document.getElementById(id);
const view = {
  library: null,
  panes: [], // the first, and once two maps were compared a second
  maps: [],
  overlays: [],
  images: new Map(), // of maps, the last used last
  masks: new Map(), // address -> promise of the image
  plane: "all",
  compare: "none",
  place: null, // of the crosshair, mm
  keeping: 0,
};
const act = { show, second, toggle, plane, move, zoom, display, redraw, toggleOverlays, window: applyWindow, shown };

start().catch((error) => tell(error.message));

async function start() {
  setUpTheme();
  const run = new URLSearchParams(location.search).get("run") ?? "";
  const reply = await fetch(`run.json?run=${encodeURIComponent(run)}`);
  if (!reply.ok) throw new Error(await reply.text());
  const about = await reply.json();
  document.title = `${about.run}: qsmprep viewer`;
  $("run").textContent = about.run;
  if (about.report) Object.assign($("report"), { href: ROOT + about.report, hidden: false });
  const trouble = about.maps.length ? await setUpNiivue() : "This run wrote no maps.";
  if (trouble) {
    tell(about.pictures.length ? `${trouble} Below are the pictures of the run.` : trouble);
    about.pictures.forEach(addPicture);
    return;
  }
  about.maps.forEach(addMap);
  about.overlays.forEach(addOverlay);
  $("overlays-section").hidden = about.overlays.length === 0;
  for (const [id, kind] of [["fill", "mask"], ["fill-regions", "regions"]]) {
    $(`${id}-line`).hidden = !view.overlays.some((overlay) => kindOf(overlay) === kind);
  }
  setUpControls({ view, act });
  await goTo(location.hash);
  window.addEventListener("hashchange", () => goTo(location.hash));
  view.panes[0].canvas.focus({ preventScroll: true });
}

/** NiiVue on the first canvas; gives what stands in the way, in words. */
async function setUpNiivue() {
  if (!document.createElement("canvas").getContext("webgl2")) {
    return "This browser gives no WebGL 2, without which maps cannot be shown.";
  }
  view.library = await import("./niivue.js").catch(() => null);
  if (!view.library) return "This installation of qsmprep lacks NiiVue, so that maps cannot be shown: run `make viewer` in its source folder (needs npm) and install it again, or open the maps in any NIfTI viewer.";
  $("main").hidden = $("by").hidden = false;
  view.panes.push(await makePane(view.library, 1, { place: placed, window: applyWindow }));
  return "";
}

function addMap(about, i) {
  const button = element("button", { type: "button" });
  const words = element("span", {}, about.name);
  if (about.detail) words.append(element("span", { className: "detail" }, about.detail));
  button.append(element("kbd", { className: i < 9 ? "" : "none" }, i < 9 ? String(i + 1) : "0"), words);
  button.setAttribute("aria-pressed", "false");
  const main = !view.maps.some(({ key }) => key === about.key); // not a further inversion
  const map = { ...about, main, rule: about.window, window: null, first: null, range: null, inside: null, button };
  button.addEventListener("click", () => show(map));
  $("maps").append(button);
  $("second").append(element("option", { value: String(i) }, fullName(about)));
  view.maps.push(map);
}

function addOverlay(about) {
  const box = element("input", { type: "checkbox" });
  const swatch = element("span", { className: about.colour ? "swatch" : "swatch many" });
  if (about.colour) swatch.style.backgroundColor = about.colour;
  const line = element("label", { className: "line" });
  line.append(box, swatch, element("span", {}, about.name));
  box.addEventListener("change", redraw);
  $("overlays").append(line);
  view.overlays.push({ ...about, box, image: null, drawn: [] });
}

function addPicture(about) {
  const figure = element("figure", {});
  figure.append(element("img", { src: ROOT + about.file, alt: about.name }), element("figcaption", {}, about.name));
  $("pictures").append(figure);
  $("pictures").hidden = false;
}

/** Show what an address asks for, and tell what of it could not be. */
async function goTo(hash) {
  const { asked, ignored } = readAddress(hash, view.maps, view.overlays);
  if (asked.convention) $("radiological").checked = asked.convention === "radiological";
  if (asked.plane) view.plane = asked.plane;
  for (const overlay of view.overlays) overlay.box.checked = asked.overlays?.includes(overlay) ?? overlay.box.checked;
  await show(asked.map ?? view.panes[0].map ?? view.maps[0]);
  const [first] = view.panes;
  if (asked.second === first.map) ignored.push("second (it is the first map)");
  else if (asked.second) await second(asked.second, asked.compare);
  else if (asked.compare) await compare(asked.compare);
  if (!first.image) return; // its status tells why
  if (asked.window) applyWindow(first, asked.window);
  if (asked.window2 && view.compare !== "none") applyWindow(view.panes[1], asked.window2);
  if (asked.at && voxelAt(first.image, asked.at)) moveTo(asked.at);
  else if (asked.at) ignored.push("at (it lies outside the map)");
  if (asked.slice) {
    const place = view.plane === "all" ? null : placeInSlice(first.image, view.place, view.plane, asked.slice[0]);
    if (place) moveTo(place);
    else ignored.push(view.plane === "all" ? "slice (it needs one plane)" : "slice (the map has none there)");
  }
  display();
  if (asked.zoom) zoom(Math.min(8, Math.max(1, asked.zoom[0])));
  $("ignored").textContent = ignored.length ? `Of the address this was ignored: ${ignored.join("; ")}.` : "";
}

/** The panes that are seen. */
function shown() {
  return view.compare === "none" ? view.panes.slice(0, 1) : view.panes;
}

/** Show a map; the crosshair stays where it is in the head. Where the other pane has it, they change places. */
async function show(map, pane = view.panes[0]) {
  if (!map) return;
  const asked = ++pane.asked;
  say(`Reading ${map.name} …`);
  try {
    const image = await imageOf(map);
    if (asked !== pane.asked) return; // another one was chosen meanwhile
    const other = view.panes.find((one) => one !== pane);
    if (other?.map === map) other.map = pane.map ?? view.maps.find((one) => one !== map);
    pane.map = map;
    view.place ??= placeOf(image, middleOf(image));
    say(map.mask && !map.inside ? `The mask of ${map.name} cannot be used.` : "");
    await redraw();
  } catch (error) {
    if (asked === pane.asked) say(error.message);
  }
}

/** Show a map beside the first; none: the first alone. */
async function second(map, mode = view.compare === "none" ? "side" : view.compare) {
  if (!map || map === view.panes[0].map) return compare("none");
  await compare(mode, map);
}

/** Compare in this way, or where it is so already, no more. */
function toggle(mode) {
  return compare(view.compare === mode ? "none" : mode);
}

async function compare(mode, map = view.panes[1]?.map ?? nextOf(view.panes[0].map)) {
  if (mode !== "none" && !map) return say("There is no other map to compare with.");
  layOut(mode);
  if (mode !== "none" && !view.panes[1]) view.panes.push(await makePane(view.library, 2, { place: placed, window: applyWindow }));
  view.compare = mode;
  if (mode === "none") await redraw();
  else await show(map, view.panes[1]);
  if (mode === "none") return;
  if (view.panes[1].map) zoomAs(view.panes[1], view.panes[0]);
  else await compare("none"); // it cannot be read; the status tells why
}

function nextOf(map) {
  return view.maps.length > 1 ? view.maps[(view.maps.indexOf(map) + 1) % view.maps.length] : null;
}

/** The image of a map, kept for next time, with its mask and the window it begins with. */
async function imageOf(map) {
  let image = view.images.get(map);
  if (!image) {
    image = await readImage(view.library.NVImage, ROOT + map.file);
    map.inside = map.mask ? await maskOf(map.mask, image) : null;
    map.first ??= windowOf(image, map.rule);
    map.window ??= [...map.first];
    map.range ??= rangeOf(image, map.first);
    // Where zero is no grey but the darkest, what is cut away is dark already.
    if (map.cut && map.first[0] < 0) cutOutside(image, map.inside);
    [image.robust_min, image.robust_max] = map.first; // what a double click goes back to
  }
  view.images.delete(map);
  view.images.set(map, image); // the last used stands last
  if (view.images.size > KEPT) view.images.delete(view.images.keys().next().value);
  return image;
}

/** The mask of an image; null where it cannot be read or has other voxels. */
async function maskOf(file, image) {
  if (!view.masks.has(file)) view.masks.set(file, readImage(view.library.NVImage, ROOT + file).catch(() => null));
  const mask = await view.masks.get(file);
  return mask && sameGrid(mask, image) ? mask : null;
}

/** Draw the maps with the overlays that are on; these are read when first asked for. */
async function redraw() {
  const filled = { mask: $("fill").valueAsNumber / 100, regions: $("fill-regions").valueAsNumber / 100 };
  for (const overlay of view.overlays) {
    if (!overlay.box.checked) continue;
    try {
      overlay.image ??= await readOverlay(overlay);
      overlay.image.opacity = Math.max(filled[kindOf(overlay)], HIDDEN);
    } catch (error) {
      overlay.box.checked = false;
      say(error.message);
    }
  }
  const over = overlaysOn().map(({ image }) => image);
  // The outlines of all overlays are equally strong; beside filled regions they must not hide small ones.
  const laidOver = filled.regions && overlaysOn().some((overlay) => kindOf(overlay) === "regions");
  const outline = laidOver ? Math.min(1, filled.regions + OUTLINED) : 1;
  for (const pane of shown()) {
    if (!pane.map) continue;
    draw(pane, await imageOf(pane.map), over, outline);
    fitFrame(pane, view.plane);
    showPlane(pane, view.plane);
    showWindow(pane);
    $(`name${pane.suffix}`).textContent = fullName(pane.map);
    putCrosshair(pane, view.place);
  }
  const [first, other] = shown();
  for (const map of view.maps) map.button.setAttribute("aria-pressed", String(map === first.map));
  $("second").value = other?.map ? String(view.maps.indexOf(other.map)) : "";
  for (const button of $("planes").children) button.setAttribute("aria-pressed", String(button.dataset.plane === view.plane));
  $("panes").dataset.plane = view.plane;
  told();
}

async function readOverlay(overlay) {
  const image = await readImage(view.library.NVImage, ROOT + overlay.file);
  overlay.drawn = asLabels(image, overlay.colour);
  return image;
}

function overlaysOn() {
  return view.overlays.filter(({ box, image }) => box.checked && image);
}

function kindOf({ labels }) {
  return labels ? "regions" : "mask";
}

function toggleOverlays() {
  const on = view.overlays.some(({ box }) => box.checked);
  const before = view.overlays.filter(({ wasOn }) => wasOn);
  const next = before.length ? before : view.overlays.slice(0, 1);
  for (const overlay of view.overlays) {
    overlay.wasOn = on ? overlay.box.checked : false;
    overlay.box.checked = on ? false : next.includes(overlay);
  }
  return redraw();
}

/** One plane, or all three. */
function plane(name) {
  view.plane = name;
  return redraw();
}

/** A new window for the map of a pane. */
function applyWindow(pane, [low, high]) {
  if (!pane?.image || !(low < high)) return;
  pane.map.window = [low, high];
  drawWindow(pane);
  showWindow(pane);
  keep();
}

/** Convention, crosshair and interpolation as the boxes say. */
function display() {
  for (const pane of view.panes) {
    pane.nv.setRadiologicalConvention($("radiological").checked);
    pane.nv.setInterpolation(!$("smooth").checked);
    fitCrosshair(pane);
    pane.nv.drawScene();
  }
  keep();
}

function zoom(factor) {
  $("zoom").value = factor;
  for (const pane of shown()) zoomAt(pane, factor);
  keep();
}

/** The crosshair of a pane was moved: the other follows. */
function placed(pane) {
  if (!pane.image || !shown().includes(pane)) return;
  view.place = crosshair(pane);
  for (const other of shown()) if (other !== pane && other.image) putCrosshair(other, view.place);
  told();
}

function moveTo(mm) {
  view.place = mm;
  for (const pane of shown()) if (pane.image) putCrosshair(pane, mm);
  told();
}

/** Move the crosshair by voxels: to the right, to the front and up, as the head is seen. */
function move(right, front, up) {
  const { nv } = view.panes[0];
  nv.moveCrosshairInVox(nv.opts.isRadiologicalConvention ? -right : right, front, up);
}

/** Tell of the place of the crosshair, and keep what is shown in the address. */
function told() {
  const panes = shown().filter(({ image }) => image);
  if (!panes.length) return;
  readOut(panes, overlaysOn(), view.place);
  keep();
}

function keep() {
  clearTimeout(view.keeping);
  view.keeping = setTimeout(() => {
    const [first, other] = shown();
    if (!first.map) return;
    const state = { first: first.map, second: other?.map, compare: view.compare, plane: view.plane, at: view.place };
    const more = { zoom: $("zoom").valueAsNumber, overlays: overlaysOn(), neurological: !$("radiological").checked };
    history.replaceState(null, "", writeAddress({ ...state, ...more }));
  }, ADDRESS_MS);
}

function element(name, properties, text = "") {
  const made = Object.assign(document.createElement(name), properties);
  if (text) made.textContent = text;
  return made;
}

function say(text) {
  $("status").textContent = text;
}

function tell(text) {
  $("message").textContent = text;
  $("message").hidden = false;
}

// The page of one run: its maps, overlays and crosshair. Texts of the data reach the page as text only.
import { fitCrosshair, fitFrame, setUpControls, setUpTheme, showWindow } from "./controls.js";
import { asLabels, cutOutside, middleOf, placeOf, rangeOf, readImage, voxelAt, windowOf } from "./volumes.js";

const KEPT = 6; // maps held in memory; a long list of large maps must not fill it
const HIDDEN = 0.001; // as good as transparent; NiiVue leaves a layer of 0 out, its outline included
const ROOT = "../"; // addresses in the run's document are relative to the output folder

const $ = (id) => document.getElementById(id);
const view = { nv: null, NVImage: null, maps: [], overlays: [], map: null, images: new Map(), asked: 0 };

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
  setUpControls({ view, show, redraw, move, toggleOverlays, applyWindow });
  await show(0);
  $("slices").focus({ preventScroll: true });
}

/** NiiVue on the canvas; gives what stands in the way, in words. */
async function setUpNiivue() {
  if (!document.createElement("canvas").getContext("webgl2")) {
    return "This browser gives no WebGL 2, without which maps cannot be shown.";
  }
  const library = await import("./niivue.js").catch(() => null);
  if (!library) return "This installation of qsmprep lacks NiiVue, so that maps cannot be shown: run `make viewer` in its source folder (needs npm) and install it again, or open the maps in any NIfTI viewer.";
  $("main").hidden = $("by").hidden = false;
  view.NVImage = library.NVImage;
  view.nv = new library.Niivue({
    logLevel: "error",
    dragAndDropEnabled: false,
    isRadiologicalConvention: true,
    sagittalNoseLeft: true, // as in the report
    isNearestInterpolation: true,
    crosshairColor: [0.34, 0.71, 0.91, 0.9],
    crosshairWidthUnit: "mm",
    isCornerOrientationText: true, // clear of the crosshair
    fontColor: [0.8, 0.8, 0.8, 1],
    multiplanarShowRender: 0, // slices only
    multiplanarPadPixels: 4,
    dragMode: 9, // the right button changes the window
    atlasOutline: 1,
  });
  await view.nv.attachToCanvas($("slices"), true);
  view.nv.onLocationChange = readOut;
  view.nv.onIntensityChange = ({ cal_min, cal_max }) => applyWindow([cal_min, cal_max]);
  return "";
}

function addMap(about, i) {
  const button = element("button", { type: "button" });
  const words = element("span", {}, about.name);
  if (about.detail) words.append(element("span", { className: "detail" }, about.detail));
  button.append(element("kbd", { className: i < 9 ? "" : "none" }, i < 9 ? String(i + 1) : "0"), words);
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => show(i));
  $("maps").append(button);
  view.maps.push({ ...about, rule: about.window, window: null, first: null, range: null, button });
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

/** Show a map by its number in the list; the crosshair stays where it is in the head. */
async function show(i) {
  const map = view.maps[i];
  if (!map) return;
  const asked = ++view.asked;
  say(`Reading ${map.name} …`);
  try {
    const image = await imageOf(map);
    if (asked !== view.asked) return; // another one was chosen meanwhile
    const place = view.map ? crosshair() : placeOf(image, middleOf(image));
    view.map = map;
    for (const other of view.maps) other.button.setAttribute("aria-pressed", String(other === map));
    say("");
    showWindow(map);
    fitFrame(image);
    await redraw();
    moveTo(place);
    fitCrosshair(view.nv);
  } catch (error) {
    if (asked === view.asked) say(error.message);
  }
}

/** The image of a map, kept for next time, with the window it begins with. */
async function imageOf(map) {
  let image = view.images.get(map);
  if (!image) {
    image = await readImage(view.NVImage, ROOT + map.file);
    map.first ??= windowOf(image, map.rule);
    map.window ??= [...map.first];
    map.range ??= rangeOf(image, map.first);
    // Where zero is no grey but the darkest, what is cut away is dark already, and a zero may be a value.
    if (map.cut && map.first[0] < 0) cutOutside(image);
    [image.robust_min, image.robust_max] = map.first; // what a double click goes back to
  }
  view.images.delete(map);
  view.images.set(map, image); // the last used stands last
  if (view.images.size > KEPT) view.images.delete(view.images.keys().next().value);
  return image;
}

/** Draw the map with the overlays that are on; these are read when first asked for. */
async function redraw() {
  const fill = Math.max($("fill").valueAsNumber / 100, HIDDEN);
  for (const overlay of view.overlays) {
    if (!overlay.box.checked) continue;
    try {
      overlay.image ??= await readOverlay(overlay);
      overlay.image.opacity = fill;
    } catch (error) {
      overlay.box.checked = false;
      say(error.message);
    }
  }
  const { nv, map } = view;
  const image = view.images.get(map);
  if (!image) return;
  [image.cal_min, image.cal_max] = map.window;
  nv.volumes = [image, ...view.overlays.filter(({ box, image }) => box.checked && image).map(({ image }) => image)];
  nv.back = image;
  nv.overlays = nv.volumes.slice(1);
  nv.updateGLVolume();
  nv.createOnLocationChange();
}

async function readOverlay(overlay) {
  const image = await readImage(view.NVImage, ROOT + overlay.file);
  overlay.drawn = asLabels(image, overlay.colour);
  return image;
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

/** A new window for the map that is shown. */
function applyWindow([low, high]) {
  const { nv, map } = view;
  if (!map || !(low < high)) return;
  map.window = [low, high];
  [nv.volumes[0].cal_min, nv.volumes[0].cal_max] = map.window;
  nv.refreshLayers(nv.volumes[0], 0);
  nv.drawScene();
  showWindow(map);
}

function crosshair() {
  return [...view.nv.frac2mm(view.nv.scene.crosshairPos, 0, true)].slice(0, 3);
}

function moveTo(mm) {
  view.nv.scene.crosshairPos = view.nv.mm2frac(mm, 0, true);
  view.nv.createOnLocationChange();
  view.nv.drawScene();
}

/** Move the crosshair by voxels: to the right, to the front and up, as the head is seen. */
function move(right, front, up) {
  const { nv } = view;
  nv.moveCrosshairInVox(nv.opts.isRadiologicalConvention ? -right : right, front, up);
}

/** Value, place and regions at the crosshair, in words. */
function readOut() {
  const { map } = view;
  const image = view.images.get(map);
  if (!image) return;
  const mm = crosshair();
  const here = voxelAt(image, mm);
  $("value-name").textContent = map.detail ? `${map.name}, ${map.detail}` : map.name;
  $("value").textContent = valueWords(map, here);
  $("position").textContent = [0, 1, 2].map((i) => sideWords(mm[i], i)).join(", ");
  $("voxel").textContent = here ? here.index.join(", ") : "–";
  const on = view.overlays.filter(({ box, image }) => box.checked && image);
  const regions = on.map((overlay) => regionWords(overlay, mm)).filter(Boolean);
  $("region").textContent = regions.join("; ") || (on.length ? "none of the overlays" : "no overlay is on");
}

function valueWords(map, here) {
  if (!here) return "outside the image";
  if (!here.inside) return "outside the mask";
  const spread = map.first[1] - map.first[0];
  const digits = Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(spread))));
  return `${signed(here.value.toFixed(digits))} ${map.unit}`;
}

function regionWords(overlay, mm) {
  const here = voxelAt(overlay.image, mm);
  if (!here || here.value === 0) return "";
  if (!overlay.labels) return overlay.name;
  const label = overlay.drawn[here.value];
  return overlay.labels[label] ? `${overlay.labels[label]} (${label})` : `label ${label}`;
}

/** A place along an axis by the patient's side: "L 47.4". */
function sideWords(mm, axis) {
  const text = Math.abs(mm).toFixed(1);
  return `${(mm < 0 && Number(text) !== 0 ? "LPI" : "RAS")[axis]} ${text}`;
}

/** A number with a minus that is as wide as a plus. */
function signed(text) {
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
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

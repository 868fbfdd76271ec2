// What stands below the slices: values, place and regions at the crosshair, in words.
import { voxelAt } from "./volumes.js";

const OUTSIDE = "outside the mask"; // the same for every map
const $ = (id) => document.getElementById(id);

/** Tell of a place: of the maps that are shown, the first one's voxel, and the overlays that are on. */
export function readOut(panes, overlays, mm) {
  for (const { map, image, suffix } of panes) {
    $(`value-name${suffix}`).textContent = fullName(map);
    $(`value${suffix}`).textContent = valueWords(map, image, mm);
  }
  const here = voxelAt(panes[0].image, mm);
  $("position").textContent = [0, 1, 2].map((i) => sideWords(mm[i], i)).join(", ");
  $("voxel").textContent = here ? here.index.join(", ") : "–";
  const found = overlays.map((overlay) => ({ overlay, label: labelAt(overlay, mm) })).filter(({ label }) => label !== null);
  $("region").textContent = found.map(regionWords).join("; ") || (overlays.length ? "none of the overlays" : "no overlay is on");
  const measured = overlays.some(({ values }) => Object.keys(values).length);
  const told = found.flatMap((region) => panes.map(({ map }) => statisticsWords(region, map))).filter(Boolean);
  $("statistics-line").hidden = !measured;
  $("statistics").textContent = told.join("; ") || "not measured here";
}

/** Name of a map with the method that made it. */
export function fullName({ name, detail }) {
  return detail ? `${name}, ${detail}` : name;
}

/** A number with a minus that is as wide as a plus. */
export function signed(text) {
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
}

function valueWords(map, image, mm) {
  const here = voxelAt(image, mm);
  if (!here) return "outside the image";
  const words = Number.isFinite(here.value) ? numberWords(map, here.value) : "no number";
  if (!map.inside) return here.value ? words : "zero, or outside: this run's mask is not there";
  if (map.inside.img[here.offset]) return words;
  return here.value ? `${OUTSIDE}: ${words}` : OUTSIDE;
}

function numberWords(map, value) {
  const spread = map.first[1] - map.first[0];
  const digits = Math.min(6, Math.max(0, 3 - Math.floor(Math.log10(spread))));
  return `${signed(value.toFixed(digits))} ${map.unit}`.trim();
}

/** Label of an overlay at a place, null where there is none. */
function labelAt(overlay, mm) {
  const here = voxelAt(overlay.image, mm);
  return here?.value ? overlay.drawn[here.value] : null;
}

function regionWords({ overlay, label }) {
  if (!overlay.labels) return overlay.name;
  return overlay.labels[label] ? `${overlay.labels[label]} (${label})` : `label ${label}`;
}

/** Mean and spread of a map in a region; empty for what the run measures in no region, such as a further inversion. */
function statisticsWords({ overlay, label }, map) {
  const measured = map.main ? overlay.values[label]?.[map.key] : undefined;
  if (!measured) return "";
  const { mean, sd, voxels } = measured;
  const name = `${map.name} in ${overlay.labels[label] ?? label}`;
  if (mean === null) return `${name}: no valid voxel`;
  return `${name}: ${numberWords({ ...map, unit: "" }, mean)} ± ${numberWords(map, sd)}, ${voxels} ${voxels === 1 ? "voxel" : "voxels"}`;
}

/** A place along an axis by the patient's side: "L 47.4". */
function sideWords(mm, axis) {
  const text = Math.abs(mm).toFixed(1);
  return `${(mm < 0 && Number(text) !== 0 ? "LPI" : "RAS")[axis]} ${text}`;
}

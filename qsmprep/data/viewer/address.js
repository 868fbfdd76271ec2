// What is shown, as the part of the address after "#": a link to it, and what the report's pictures lead to.
//
//   map=Chimap            the map, by its file's name without the run's prefix
//   plane=axial           axial, coronal, sagittal or all
//   slice=12.5            of one plane: where it lies along the patient's axis, mm, at the middle of the volume
//   at=-4.0,10.5,12.5     the crosshair, mm to the right, front and top
//   window=-0.1,0.1       darkest and brightest value; window2 that of the second map
//   second=R2starmap      the map beside it, and compare=side or flicker
//   overlays=desc-a_dseg  masks and segmentations that are on
//   zoom=2  convention=neurological

const PLANES = ["axial", "coronal", "sagittal", "all"];
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,2})?$/i;

/** What an address asks for, and in words what of it was not understood. */
export function readAddress(hash, maps, overlays) {
  const asked = {};
  const ignored = [];
  const refuse = (name, why) => void ignored.push(`${name} (${why})`);
  const known = (list, name) => (id) => list.find((one) => one.id === id) ?? refuse(name, `this run has no ${short(id)}`);
  const oneOf = (words, name) => (text) => (words.includes(text) ? text : refuse(name, `give ${words.join(" or ")}`));
  const numbers = (count, name) => (text) => {
    const parts = text.split(",");
    const right = parts.length === count && parts.every((part) => NUMBER.test(part));
    return right ? parts.map(Number) : refuse(name, count === 1 ? "give a number" : `give ${count} numbers`);
  };
  const window = (name) => (text) => {
    const pair = numbers(2, name)(text);
    return !pair || pair[0] < pair[1] ? pair : refuse(name, "the darkest value comes first");
  };
  const readers = {
    map: known(maps, "map"),
    second: known(maps, "second"),
    plane: oneOf(PLANES, "plane"),
    compare: oneOf(["side", "flicker"], "compare"),
    convention: oneOf(["radiological", "neurological"], "convention"),
    at: numbers(3, "at"),
    slice: numbers(1, "slice"),
    zoom: numbers(1, "zoom"),
    window: window("window"),
    window2: window("window2"),
    overlays: (text) => text.split(",").filter(Boolean).map(known(overlays, "overlays")).filter(Boolean),
  };
  for (const [name, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const value = Object.hasOwn(readers, name) ? readers[name](text) : refuse(short(name), "there is no such word");
    if (value !== undefined) asked[name] = value;
  }
  return { asked, ignored };
}

/** The address of what is shown; what is as in the beginning stays out. */
export function writeAddress({ first, second, compare, plane, at, zoom, overlays, neurological }) {
  const place = at.map((mm) => withoutMinusZero(mm.toFixed(1))).join(",");
  const said = {
    map: first.id,
    plane: plane === "all" ? "" : plane,
    at: place,
    window: windowWords(first),
    second: second?.id,
    compare: second ? compare : "",
    window2: second ? windowWords(second) : "",
    overlays: overlays.map(({ id }) => id).join(","),
    zoom: zoom === 1 ? "" : String(zoom),
    convention: neurological ? "neurological" : "",
  };
  const words = Object.entries(said).filter(([, value]) => value);
  return `#${words.map(([name, value]) => `${name}=${encodeURIComponent(value).replaceAll("%2C", ",")}`).join("&")}`;
}

function windowWords({ window, first }) {
  return window.every((value, i) => value === first[i]) ? "" : window.map((value) => Number(value.toPrecision(6))).join(",");
}

function withoutMinusZero(text) {
  return Number(text) === 0 ? text.replace("-", "") : text;
}

/** What stands in an address may be of any length. */
function short(text) {
  return text.length > 40 ? `${text.slice(0, 40)}…` : text;
}

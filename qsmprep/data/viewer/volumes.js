// Reading maps and masks, and what is computed from their voxels. Voxels are counted as in the file.

const OUTSIDE = -1e30; // stands for "no value here": drawn black whatever the window
const CUT = Math.fround(OUTSIDE); // as an image holds it
const SAMPLES = 200000; // voxels enough for a stable percentile

/** Fetch an image; an error tells in words what is wrong. */
export async function readImage(NVImage, address) {
  const reply = await fetch(address);
  if (!reply.ok) throw new Error(`${decodeURIComponent(address).split("/").pop()} cannot be read: ${await reply.text()}`);
  const name = address.endsWith(".gz") ? "map.nii.gz" : "map.nii";
  return NVImage.loadFromUrl({ url: await reply.arrayBuffer(), name, colormap: "gray" });
}

/** Window of a map: as given, or by the rules of the report's pictures over voxels that are not zero. */
export function windowOf(image, rule) {
  if (Array.isArray(rule)) return [...rule];
  const values = sample(image);
  if (values.length === 0) return [0, 1];
  if (rule === "symmetric") {
    const high = percentile(values.map(Math.abs).sort(), 0.99) || 1;
    return [-high, high];
  }
  values.sort();
  if (rule === "positive") return [0, Math.max(percentile(values, 0.99), 0) || 1];
  const [low, high] = [percentile(values, 0.01), percentile(values, 0.99)];
  return high > low ? [low, high] : [low - 0.5, low + 0.5];
}

/** Values between which the sliders go: all but the wildest voxels, and the window. */
export function rangeOf(image, [low, high]) {
  const values = sample(image).sort();
  const ends = values.length ? [percentile(values, 0.001), percentile(values, 0.999)] : [low, high];
  const room = 0.5 * (high - low);
  return [Math.min(ends[0], low - (low < 0 ? room : 0)), Math.max(ends[1], high + room)];
}

/** Have voxels without a value drawn as outside: zeros beyond the mask, all zeros where there is no mask. */
export function cutOutside(image, mask) {
  const { img } = image;
  if (!(img instanceof Float32Array)) return;
  for (let i = 0; i < img.length; i++) if (Number.isNaN(img[i]) || (img[i] === 0 && !mask?.img[i])) img[i] = OUTSIDE;
}

/** Whether two images have the same voxels. */
export function sameGrid(image, other) {
  const near = (row, i) => row.every((value, k) => Math.abs(value - other.hdr.affine[i][k]) < 1e-3);
  return [1, 2, 3].every((axis) => image.hdr.dims[axis] === other.hdr.dims[axis]) && image.hdr.affine.every(near);
}

/** Voxel at a place in mm: {index, offset in the file, value}, the value 0 where it was cut; null outside the image. */
export function voxelAt(image, mm) {
  const index = solve(image.hdr.affine, mm).map(Math.round);
  const dims = image.hdr.dims.slice(1, 4);
  if (index.some((n, axis) => !(n >= 0 && n < dims[axis]))) return null;
  const offset = index[0] + dims[0] * (index[1] + dims[1] * index[2]);
  const stored = image.img[offset];
  return { index, offset, value: stored === CUT ? 0 : stored * image.hdr.scl_slope + image.hdr.scl_inter };
}

/** The place with its slice of a plane moved to where that lies at the middle of the volume, in mm along the patient's
 *  axis through it, as the report tells the places of its slices; null where the volume has none there. */
export function placeInSlice(image, mm, plane, along) {
  const through = { sagittal: 0, coronal: 1, axial: 2 }[plane];
  const axis = Math.abs(image.permRAS[through]) - 1; // of the file, closest to the patient's
  const dims = image.hdr.dims.slice(1, 4);
  const middle = dims.map((n) => (n - 1) / 2);
  const n = Math.round(middle[axis] + (along - placeOf(image, middle)[through]) / image.hdr.affine[through][axis]);
  if (!(n >= 0 && n < dims[axis])) return null;
  const index = voxelAt(image, mm)?.index ?? middle.map(Math.round);
  index[axis] = n;
  return placeOf(image, index);
}

/** Place in mm of a voxel. */
export function placeOf(image, index) {
  return image.hdr.affine.slice(0, 3).map((row) => row[0] * index[0] + row[1] * index[1] + row[2] * index[2] + row[3]);
}

/** Centre of gravity, as a voxel, of those that are not zero. */
export function middleOf(image) {
  const [nx, ny] = [image.hdr.dims[1], image.hdr.dims[2]];
  const sum = [0, 0, 0];
  let count = 0;
  image.img.forEach((value, i) => {
    if (value === 0 || !(value > OUTSIDE / 2)) return;
    sum[0] += i % nx;
    sum[1] += Math.floor(i / nx) % ny;
    sum[2] += Math.floor(i / (nx * ny));
    count += 1;
  });
  return count ? sum.map((s) => Math.round(s / count)) : image.hdr.dims.slice(1, 4).map((n) => n >> 1);
}

/** Make an image of labels, or a mask, one that is drawn with outlines; gives the label of each number drawn. */
export function asLabels(image, colour) {
  const labels = [...new Set(image.img)].map(Math.round).filter((label) => label > 0).sort((a, b) => a - b);
  const shown = colour ? [1] : labels;
  const number = new Map(labels.map((label, i) => [label, colour ? 1 : i + 1]));
  const packed = shown.length < 255 ? new Uint8Array(image.img.length) : new Uint16Array(image.img.length);
  image.img.forEach((value, i) => (packed[i] = number.get(Math.round(value)) ?? 0));
  image.img = packed;
  Object.assign(image.hdr, {
    datatypeCode: packed.BYTES_PER_ELEMENT === 1 ? 2 : 512,
    numBitsPerVoxel: 8 * packed.BYTES_PER_ELEMENT,
    intent_code: 1002,
    scl_slope: 1,
    scl_inter: 0,
  });
  const colours = shown.map((_, i) => (colour ? fromHex(colour) : distinct(i)));
  const channel = (k) => [0, ...colours.map((c) => c[k])];
  image.setColormapLabel({
    R: channel(0),
    G: channel(1),
    B: channel(2),
    A: [0, ...colours.map(() => 255)],
    I: [0, ...shown.keys()].map((_, i) => i),
    labels: ["", ...shown.map(String)],
  });
  return ["", ...shown];
}

function sample(image) {
  const step = Math.max(1, Math.floor(image.img.length / (4 * SAMPLES)));
  const kept = [];
  for (let i = 0; i < image.img.length; i += step) {
    const value = image.img[i];
    if (value !== 0 && value > OUTSIDE / 2 && Number.isFinite(value)) kept.push(value);
  }
  return Float64Array.from(kept, (value) => value * image.hdr.scl_slope + image.hdr.scl_inter);
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.round(share * (sorted.length - 1)))];
}

/** Voxel indices, not rounded, of a place: the affine's inverse by Cramer's rule. */
function solve(affine, mm) {
  const [a, b, c] = [0, 1, 2].map((column) => [0, 1, 2].map((row) => affine[row][column]));
  const p = [0, 1, 2].map((row) => mm[row] - affine[row][3]);
  const det = triple(a, b, c);
  return [triple(p, b, c) / det, triple(a, p, c) / det, triple(a, b, p) / det];
}

function triple(a, b, c) {
  return a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
}

function fromHex(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

/** Colours far from each other however many: hues by the golden angle. */
function distinct(i) {
  const hue = (i * 137.508) % 360;
  const level = (n) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (0.58 - 0.4 * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return [level(0), level(8), level(4)];
}

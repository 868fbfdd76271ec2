// A pane: a canvas with its own NiiVue that shows one map, in its own window, under the overlays that are on.

const LINE = 1.6; // pixels that the crosshair is wide
const PLANES = { axial: 0, coronal: 1, sagittal: 2, all: 3 }; // NiiVue's numbers
const $ = (id) => document.getElementById(id);

/** A pane on the canvas of this number; what is given as `on` is called when a person moves or turns something in it. */
export async function makePane(library, number, on) {
  const suffix = number === 1 ? "" : `-${number}`;
  const pane = { number, suffix, map: null, image: null, asked: 0, place: $(`pane-${number}`), canvas: $(`slices${suffix}`) };
  pane.place.hidden = false; // NiiVue measures the canvas
  pane.nv = new library.Niivue({
    logLevel: "error",
    dragAndDropEnabled: false,
    isRadiologicalConvention: $("radiological").checked,
    sagittalNoseLeft: true, // as in the report
    isNearestInterpolation: !$("smooth").checked,
    crosshairColor: [0.34, 0.71, 0.91, 0.9],
    crosshairWidthUnit: "mm",
    isCornerOrientationText: true, // clear of the crosshair
    fontColor: [0.8, 0.8, 0.8, 1],
    multiplanarShowRender: 0, // slices only
    multiplanarPadPixels: 4,
    dragMode: 9, // the right button changes the window
  });
  await pane.nv.attachToCanvas(pane.canvas, true);
  pane.nv.onLocationChange = () => on.place(pane);
  pane.nv.onIntensityChange = ({ cal_min, cal_max }) => on.window(pane, [cal_min, cal_max]);
  // NiiVue turns the window with the right button itself, without a word to us.
  pane.canvas.addEventListener("mousemove", ({ buttons }) => {
    if (buttons & 2 && pane.image) on.window(pane, [pane.image.cal_min, pane.image.cal_max]);
  });
  new ResizeObserver(() => fitCrosshair(pane)).observe(pane.canvas);
  return pane;
}

/** Draw an image and the overlays over it, with outlines as strong as is said (0 to 1). */
export function draw(pane, image, overlays, outline) {
  const { nv, map } = pane;
  nv.opts.atlasOutline = outline;
  pane.image = image;
  [image.cal_min, image.cal_max] = map.window;
  nv.volumes = [image, ...overlays];
  nv.back = image;
  nv.overlays = overlays;
  nv.updateGLVolume();
}

/** Draw the same image in the window that its map has now. */
export function drawWindow({ nv, map, image }) {
  [image.cal_min, image.cal_max] = map.window;
  nv.refreshLayers(image, 0);
  nv.drawScene();
}

/** Place of the crosshair in mm. */
export function crosshair({ nv }) {
  return [...nv.frac2mm(nv.scene.crosshairPos, 0, true)].slice(0, 3);
}

/** Put the crosshair there, telling nobody. */
export function putCrosshair({ nv }, mm) {
  nv.scene.crosshairPos = nv.mm2frac(mm, 0, true);
  nv.drawScene();
}

/** One plane, or all three. */
export function showPlane(pane, plane) {
  pane.nv.setSliceType(PLANES[plane]);
  fitCrosshair(pane);
}

/** Give the slices a frame of their own proportions: three in a row where there is room, else two by two. */
export function fitFrame(pane, plane) {
  const [x, y, z] = [1, 2, 3].map((axis) => pane.image.dimsRAS[axis] * pane.image.pixDimsRAS[axis]);
  const one = { axial: x / y, coronal: x / z, sagittal: y / z }[plane];
  pane.place.style.setProperty("--row", one ?? (2 * x + y) / Math.max(y, z));
  pane.place.style.setProperty("--grid", one ?? (x + y) / (y + z));
}

/** The crosshair is as wide on every screen; NiiVue counts in mm of the head. */
export function fitCrosshair({ nv }) {
  const slice = nv.screenSlices[0];
  if (!slice) return;
  const perPixel = Math.abs(slice.fovMM[0] / slice.leftTopWidthHeight[2]) * nv.uiData.dpr;
  nv.opts.crosshairGap = 4 * LINE * perPixel;
  nv.setCrosshairWidth($("crosshair").checked ? LINE * perPixel : 0);
}

/** Zoom so that the crosshair stays where it is on the screen. */
export function zoomAt(pane, factor) {
  const { nv } = pane;
  const [x, y, z] = nv.frac2mm(nv.scene.crosshairPos, 0, nv.opts.isSliceMM);
  const [px, py, pz, before] = nv.scene.pan2Dxyzmm;
  const more = before - factor;
  nv.setPan2Dxyzmm(factor === 1 ? [0, 0, 0, 1] : [px + more * x, py + more * y, pz + more * z, factor]);
  fitCrosshair(pane);
}

/** Show a pane the same part of the head as another. */
export function zoomAs(pane, other) {
  pane.nv.setPan2Dxyzmm([...other.nv.scene.pan2Dxyzmm]);
  fitCrosshair(pane);
}

"""Figures of volumes: slices in three planes with a colour bar, patient directions and mask outlines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from qsmprep.files.whole_file import whole_file
from qsmprep.report.montage import Layout, outline, plan
from qsmprep.report.png_text import SLICES
from qsmprep.report.thumbnail import KEYWORD, make_thumbnail

CHI_WINDOW_PPM = (-0.2, 0.2)  # the consensus paper's display of susceptibility

# Window, colour map and unit of what the pipeline shows: mosaic(..., **STYLES["chi"]).
STYLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "chi": {"window": CHI_WINDOW_PPM, "cmap": "gray", "label": "χ (ppm)"},
        "source": {"window": (0.0, 0.1), "cmap": "gray", "label": "|χ| (ppm)"},
        "error": {"window": (0.0, 0.05), "cmap": "viridis", "label": "|error of χ| (ppm)"},
        "rate": {"window": (0.0, 50.0), "cmap": "gray", "label": "rate (1/s)"},
        "field": {"window": "symmetric", "cmap": "gray", "label": "field (Hz)"},
        "field-ppm": {"window": "symmetric", "cmap": "gray", "label": "field (ppm)"},
        "phase": {"window": (-np.pi, np.pi), "cmap": "gray", "label": "phase (rad)"},
        "unwrapped": {"window": "symmetric", "cmap": "gray", "label": "phase (rad)"},
        "quality": {"window": (0.0, 1.0), "cmap": "viridis", "label": "quality"},
        "weights": {"window": "positive", "cmap": "gray", "label": "weight"},
        "noise": {"window": "positive", "cmap": "viridis", "label": "noise"},
        "magnitude": {"window": "positive", "cmap": "gray", "label": "signal (a.u.)"},
        "r2star": {"window": (0.0, 50.0), "cmap": "gray", "label": "R2* (1/s)"},
        "t2star": {"window": (0.0, 0.1), "cmap": "gray", "label": "T2* (s)"},
    }
)

# Colours of the outlines (Okabe and Ito): distinct to colour-blind eyes, bright on black.
_COLOURS = ("#56B4E9", "#E69F00", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
_DIMMED = 1.5  # an anatomical image is shown darker under outlines, so that bright tissue does not drown them
_DPI = 100
_SAMPLES = 200_000  # voxels enough for a stable percentile


def mosaic(volume: np.ndarray, affine: np.ndarray, **shown: Any) -> bytes:
    """The figure of `mosaic_figure`, which explains the parameters, as the bytes of a PNG file."""
    return _png(mosaic_figure(volume, affine, **shown))


def save_mosaic(path: Path, volume: np.ndarray, affine: np.ndarray, **shown: Any) -> Path:
    """Draw a mosaic (see `mosaic`) into a PNG file, written whole."""
    png = mosaic(volume, affine, **shown)
    with whole_file(Path(path)) as stream:
        stream.write(png)
    return Path(path)


# More than 8 parameters: what is drawn, and each property of how it looks, by name.
def mosaic_figure(
    volume: np.ndarray,
    affine: np.ndarray,
    *,
    mask: np.ndarray | None = None,
    frame: np.ndarray | None = None,
    contours: Sequence[tuple[str, np.ndarray]] = (),
    window: tuple[float, float] | str | None = None,
    cmap: str = "gray",
    label: str = "",
    title: str = "",
    convention: str = "radiological",
    thumbnail: bool = False,
) -> Any:
    """Axial, coronal and sagittal slices of a volume as a matplotlib figure; its colour bar carries the window.

    Values are those of the nearest voxel, never interpolated; voxels keep their true shape.

    Parameters
    ----------
    volume : (n0, n1, n2) image; NaN and infinity are drawn black.
    affine : (4, 4) voxel-to-world matrix in mm; slices follow the voxel axes closest to the patient's.
    mask : bool volume; only voxels inside are drawn, and its box is shown. None draws everything.
    frame : bool volume whose box is shown instead, so that several pictures register pixel for pixel.
    contours : (name, bool volume) of masks whose outlines are drawn, each in its own colour.
    window : values shown as darkest and brightest; "robust" or None takes the 1st and 99th percentile, "symmetric"
        the 99th of the magnitude around zero, "positive" from zero to the 99th, "dimmed" darker, as under outlines.
    cmap : matplotlib colour map.
    label : of the colour bar, with unit.
    title : one line above.
    convention : "radiological" (patient's right on the left) or "neurological".
    thumbnail : whether the PNG carries its middle axial slice as a small picture, for the group page.

    Returns
    -------
    The figure.
    """
    import matplotlib
    from matplotlib.colors import Normalize

    volume = np.asarray(volume)
    if np.iscomplexobj(volume) or volume.ndim != 3:
        raise ValueError(f"A mosaic needs a real volume of three axes; got {volume.dtype} {volume.shape}.")
    masks = [np.asarray(m, bool) for m in ([] if mask is None else [mask])]
    outlines = [(name, np.asarray(area, bool)) for name, area in contours]
    region = masks[0] if masks else _union([area for _, area in outlines])
    box = region if frame is None else np.asarray(frame, bool)
    layout = plan(volume.shape, affine, region=box, convention=convention)

    low, high = window_limits(volume, region if region is not None else box, window)
    if outlines and window == "positive":
        high *= _DIMMED
    norm = Normalize(low, high, clip=True)
    values = layout.draw(volume if volume.dtype.kind == "f" else volume.astype(np.float32), fill=np.nan)
    shown = np.isfinite(values)
    if masks:
        shown &= layout.draw(masks[0])
    colours = matplotlib.colormaps[cmap](norm(np.where(shown, values, 0)), bytes=True)[..., :3].copy()
    colours[~shown] = 0
    legend = []
    taken = np.zeros(shown.shape, bool)
    dashes = np.add.outer(*(np.arange(n) // 6 for n in shown.shape)) % 2 == 0
    for number, (name, area) in enumerate(outlines):
        colour = _COLOURS[number % len(_COLOURS)]
        line = outline(layout.draw(area))
        # Where outlines coincide they alternate, so that none hides another.
        colours[line & (dashes | ~taken)] = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        taken |= line
        legend.append((name, colour))
    figure = _compose(colours, layout, norm, cmap, label, title, legend)
    places: dict[str, list[float]] = {}
    for tile in layout.tiles:
        places.setdefault(tile.plane.name, []).append(round(tile.place_mm, 3))
    figure.texts_of_file = {SLICES: json.dumps(places)}  # `_png` writes them into the file
    if thumbnail:
        figure.texts_of_file[KEYWORD] = make_thumbnail(_middle_slice(colours, layout))
    return figure


def _middle_slice(colours: np.ndarray, layout: Layout) -> np.ndarray:
    """The axial slice in the middle of its row, cut out of the montage."""
    row = [tile for tile in layout.tiles if tile.plane is layout.tiles[0].plane]
    tile = row[len(row) // 2]
    return colours[tile.row : tile.row + tile.height, tile.column : tile.column + tile.width]


def window_limits(
    volume: np.ndarray, region: np.ndarray | None, window: tuple[float, float] | str | None
) -> tuple[float, float]:
    """Darkest and brightest value shown: as given, or percentiles of the finite values of the region.

    Raises ValueError for an unknown word or an empty interval.
    """
    if window is not None and not isinstance(window, str):
        low, high = (float(limit) for limit in window)
        if not low < high:
            raise ValueError(f"The window ({low:g}, {high:g}) is empty: its first value must be the smaller one.")
        return low, high
    kinds = {None: "robust"} | {word: word for word in ("robust", "symmetric", "positive", "dimmed")}
    if window not in kinds:
        raise ValueError(f"Unknown window {window!r}; give two numbers, 'robust', 'symmetric', 'positive' or 'dimmed'.")
    inside = region is not None and region.any()
    values = volume[region] if inside else volume.ravel()
    values = values[:: max(1, values.size // _SAMPLES)].astype(np.float64)
    values = values[np.isfinite(values)]
    if not values.size:
        return 0.0, 1.0
    if kinds[window] == "symmetric":
        high = float(np.percentile(np.abs(values), 99)) or float(np.abs(values).max()) or 1.0
        return -high, high
    low, high = (float(p) for p in np.percentile(values, (1, 99)))
    if kinds[window] in ("positive", "dimmed"):
        return 0.0, (high if high > 0 else 1.0) * (_DIMMED if window == "dimmed" else 1)
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _union(areas: Sequence[np.ndarray]) -> np.ndarray | None:
    return np.logical_or.reduce(areas) if areas else None


def _compose(
    colours: np.ndarray,
    layout: Layout,
    norm: Any,
    cmap: str,
    label: str,
    title: str,
    legend: Sequence[tuple[str, str]],
) -> Any:
    """Montage pixel for pixel in the middle; letters left and right, title above, colour bar on the right."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    high, wide = colours.shape[:2]
    head = 36 if title or legend else 8
    left, right, foot = 40, 124, 8
    size = (left + wide + right, head + high + foot)
    figure = Figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, facecolor="black")
    axes = figure.add_axes((left / size[0], foot / size[1], wide / size[0], high / size[1]))
    axes.imshow(colours, interpolation="nearest", aspect="auto")
    axes.set_axis_off()

    bar_high = min(high, max(120, int(0.6 * high)))
    bottom = (foot + (high - bar_high) / 2) / size[1]
    bar_axes = figure.add_axes(((left + wide + 32) / size[0], bottom, 14 / size[0], bar_high / size[1]))
    bar = figure.colorbar(ScalarMappable(norm=norm, cmap=cmap), cax=bar_axes)
    bar.outline.set_edgecolor("0.6")
    bar.ax.tick_params(colors="0.9", labelsize=9, length=3)
    bar.set_label(label, color="0.95", fontsize=9.5)

    def write(x: float, y: float, text: str, **style: Any) -> None:
        chosen: dict[str, Any] = {"color": "0.9", "fontsize": 10} | style
        figure.text(x / size[0], 1 - y / size[1], text, **chosen)

    for row in layout.rows:
        middle = head + row.row + row.height / 2
        write(14, middle, row.left, ha="center", va="center", fontweight="bold")
        write(left + wide + 12, middle, row.right, ha="center", va="center", fontweight="bold")
        if row.height >= 40:
            name = row.plane.name if row.height < 100 else f"{row.plane.name}  {row.order}"
            write(29, middle, name, ha="center", va="center", rotation=90, color="0.65", fontsize=8)
    for tile in layout.tiles:
        if min(tile.height, tile.width) >= 60:
            words = f"{tile.place} mm" if tile == layout.tiles[0] else tile.place
            write(left + tile.column + 2, head + tile.row + 7, words, va="center", color="0.7", fontsize=7)
    write(10, head / 2 - 1, title, va="center", fontsize=11, color="0.95", parse_math=False)
    if legend:
        _write_legend(figure, legend)
    return figure


def _write_legend(figure: Any, legend: Sequence[tuple[str, str]]) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2, label=name) for name, colour in legend]
    box = figure.legend(
        handles=lines,
        loc="upper right",
        ncols=len(lines),
        frameon=False,
        labelcolor="linecolor",
        fontsize=10,
        handlelength=1.2,
        columnspacing=1.4,
        borderaxespad=0.3,
    )
    for text in box.get_texts():
        text.set_parse_math(False)


def _png(figure: Any) -> bytes:
    """The figure as a small PNG: grey where it has no colour, a palette where it has few."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    grey = np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2])
    if grey:
        image = Image.fromarray(np.ascontiguousarray(pixels[..., 0]))
    else:
        image = Image.fromarray(np.ascontiguousarray(pixels)).quantize(256, dither=Image.Dither.NONE)
    stream, texts = BytesIO(), PngInfo()
    for keyword, text in figure.texts_of_file.items():
        texts.add_text(keyword, text)
    image.save(stream, format="PNG", compress_level=6, pnginfo=texts)
    return stream.getvalue()

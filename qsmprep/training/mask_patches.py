"""Images of heads that no scanner has made: any contrast, resolution and field of view over a label map.

Half of the images have the contrast of a gradient echo, half an intensity drawn for each tissue. A network that has to
find the brain in all of them goes by shapes, and so works on scans of a kind it never saw.

References
----------
Billot 2023 (SynthSeg); Hoopes 2022 (SynthStrip): training on synthetic images alone, the distance to the surface as
label.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch.nn.functional import grid_sample, interpolate

from qsmprep.nets.channels.magnitude import LARGEST_DEPTH_MM, magnitude_channel
from qsmprep.numerics.arrays import FloatImage, Labels, Mask
from qsmprep.numerics.volume import bounding_box
from qsmprep.phantom.scanner import steady_state
from qsmprep.phantom.tissues import PROPERTIES, TISSUES, property_table
from qsmprep.training.label_heads import STEP_MM
from qsmprep.training.pool import Head

GRID_MM = 2.0  # edge of the voxels that the network sees
LARGEST_TURN_DEGREES = 30.0
LARGEST_SHIFT_MM = 30.0
DEFORMATION_MM = 3.0
CONTROL_POINTS = 5
COARSEST_MM = 5.0
THINNEST_SLAB_MM = 40.0
LABEL = {name: tissue.label for name, tissue in TISSUES.items()}
SCALP = ("muscle", "fat", "skin", "marrow", "bone", "vitreous")
DARK = ("background", "air")


def mask_patch(
    heads: Sequence[Head], edge: int, random: np.random.Generator
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """One synthetic image, the depth below the brain's surface in mm, and the field of view: (1, edge, edge, edge)."""
    head = heads[int(random.integers(len(heads)))]
    labels, depth = _placed(head, edge, random)
    image = _contrast(labels, depth, random)
    image = _scanned(image, labels, depth, random)
    view = _field_of_view(edge, random)
    image = _sampled(image, random)
    if not (image * view).any():
        view = np.ones_like(view)
    channel = magnitude_channel(image, view)
    return channel[None], (depth * view)[None], view.astype(np.float32)[None]


def _placed(head: Head, edge: int, random: np.random.Generator) -> tuple[Labels, FloatImage]:
    """Labels and depth on the network's grid: mirrored, turned, scaled, bent, the brain's middle anywhere near."""
    source, (near, corner) = head.volume("labels"), _near(head)
    scale = float(np.exp(random.uniform(-0.15, 0.12)))
    stretch = scale * np.exp(0.05 * np.clip(random.standard_normal(3), -2, 2))
    angles = np.deg2rad(random.uniform(-1, 1, 3) * LARGEST_TURN_DEGREES * random.random())
    turn = _rotation(*angles) @ np.diag([-1.0 if random.random() < 0.5 else 1.0, 1.0, 1.0]) / stretch
    coarse = DEFORMATION_MM * random.random() * random.standard_normal((1, 3, *(CONTROL_POINTS,) * 3))
    bent = interpolate(torch.from_numpy(coarse.astype(np.float32)), (edge,) * 3, mode="trilinear", align_corners=True)
    axis = (torch.arange(edge, dtype=torch.float32) - (edge - 1) / 2) * GRID_MM
    where = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))
    where = where - torch.from_numpy((LARGEST_SHIFT_MM * _within_ball(random)).astype(np.float32)).view(3, 1, 1, 1)
    where = torch.einsum("ij,jxyz->ixyz", torch.from_numpy(turn.astype(np.float32)), where) + bent[0]
    middle = torch.tensor([c + n / 2 for c, n in zip(corner, near.shape, strict=True)]).view(3, 1, 1, 1)
    voxels = where / STEP_MM + middle
    places = np.rint(voxels.numpy()).astype(np.int32)
    limits = np.array(source.shape).reshape(3, 1, 1, 1)
    held = ((places >= 0) & (places < limits)).all(axis=0)
    labels = source[tuple(np.clip(places, 0, limits - 1))] * held
    sizes = torch.tensor([(n - 1) / 2 for n in near.shape]).view(3, 1, 1, 1)
    grid = ((voxels - torch.tensor(corner).view(3, 1, 1, 1)) / sizes - 1).flip(0).permute(1, 2, 3, 0)[None]
    deep = grid_sample(_tensor(near), grid, padding_mode="zeros", align_corners=True)[0, 0].numpy()
    depth = np.clip((deep - LARGEST_DEPTH_MM) * scale, -LARGEST_DEPTH_MM, LARGEST_DEPTH_MM)
    return labels, depth.astype(np.float32)


def _contrast(labels: Labels, depth: FloatImage, random: np.random.Generator) -> FloatImage:
    """An intensity for each voxel, with texture and, between skull and fluid, a membrane."""
    table = _gradient_echo(random) if random.random() < 0.5 else random.uniform(0.05, 1, 256)
    for name in DARK:
        table[LABEL[name]] = 0.0
    if random.random() < 0.5:  # what is outside the brain may look like anything
        for name in SCALP:
            table[LABEL[name]] = random.uniform(0, 1.5) * table[LABEL["white_matter"]]
    if random.random() < 0.6:
        table[LABEL["bone"]] *= random.uniform(0, 0.4)
    image = table.astype(np.float32)[labels]
    image = _with_membrane(image, labels, depth, table, random)
    for sigma in (0.0, float(random.uniform(0.7, 4.0))):
        noise = random.standard_normal(labels.shape, np.float32)
        if sigma:
            noise = gaussian_filter(noise, sigma, truncate=2.5)
            noise /= noise.std()
        image *= 1 + np.float32(random.uniform(0, 0.12)) * noise
    return np.maximum(image, 0)


def _gradient_echo(random: np.random.Generator) -> np.ndarray:
    """Signal of each label in a spoiled gradient echo of some scanner."""
    names = tuple(TISSUES)
    rows = property_table(names, float(random.choice((1.5, 3.0, 7.0))))
    column = {name: rows[:, i] for i, name in enumerate(PROPERTIES)}
    start = steady_state(
        column["m0"], np.maximum(column["r1"], 1e-3), random.uniform(0.015, 0.06), random.uniform(6, 40)
    )
    signal = start * np.exp(-random.uniform(0.002, 0.035) * (column["r2"] + column["r2prime"]))
    signal = signal * np.exp(0.12 * random.standard_normal(len(names)))
    table = np.zeros(256)
    table[[LABEL[name] for name in names]] = signal / signal[names.index("white_matter")]
    return table


def _with_membrane(image, labels: Labels, depth: FloatImage, table, random: np.random.Generator) -> FloatImage:
    """Half of the heads have less fluid around the brain, and a membrane of some brightness below the skull."""
    if random.random() < 0.5:
        return np.asarray(image)
    around = (labels == LABEL["outer_csf"]) | (labels == LABEL["bone"])
    near, thick = random.uniform(0.5, 3.5), random.uniform(1.0, 3.0)
    image = np.where(around & (depth < -near - thick), table[LABEL["bone"]], image)
    membrane = around & (depth < -near) & (depth >= -near - thick)
    return np.where(membrane, random.uniform(0, 1) * table[LABEL["grey_matter"]], image).astype(np.float32)


def _scanned(image: FloatImage, labels: Labels, depth: FloatImage, random: np.random.Generator) -> FloatImage:
    """Signal loss beside air, sensitivity of the coils, and what was masked already."""
    air = (labels == LABEL["air"]).astype(np.float32)
    if random.random() < 0.6 and air.any():
        image = image * np.exp(-random.uniform(1, 10) * gaussian_filter(air, random.uniform(1.5, 5), truncate=2.5))
    image = image * _sensitivity(len(image), depth, random)
    chance = random.random()
    if chance < 0.12:  # skull-stripped, more or less
        image = np.where(depth > -random.uniform(0, 7), image, 0)
    elif chance < 0.25:
        image = np.where(labels > 0, image, 0)
    return gaussian_filter(image, random.uniform(0.3, 0.6), truncate=2.5)


def _sensitivity(edge: int, depth: FloatImage, random: np.random.Generator) -> FloatImage:
    points = int(random.integers(2, 5))
    coarse = random.uniform(0, 0.5) * random.standard_normal((1, 1, *(points,) * 3))
    smooth = interpolate(torch.from_numpy(coarse.astype(np.float32)), (edge,) * 3, mode="trilinear", align_corners=True)
    field = smooth[0, 0].numpy()
    if random.random() < 0.4:  # bright in the middle or at the rim
        axis = np.linspace(-1, 1, edge, dtype=np.float32) + np.float32(random.uniform(-0.2, 0.2))
        square = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        field = field + np.float32(random.uniform(-1.2, 1.5)) * square
    return np.exp(field)


def _sampled(image: FloatImage, random: np.random.Generator) -> FloatImage:
    """The image in voxels of another size, with noise, and back on the grid."""
    edge = len(image)
    sizes = [edge] * 3
    if random.random() < 0.6:
        drawn = np.exp(random.uniform(np.log(GRID_MM), np.log(COARSEST_MM), 3))
        sizes = [max(8, round(edge * GRID_MM / h)) if random.random() < 0.5 else edge for h in drawn]
    coarse = interpolate(_tensor(image), sizes, mode="area")
    seen = coarse[0, 0].numpy()
    bright = float(np.percentile(seen, 95)) or 1.0
    deviation = bright / float(np.exp(random.uniform(np.log(5), np.log(120))))
    if random.random() < 0.15:
        deviation = 0.0
    real, imaginary = (deviation * random.standard_normal(seen.shape, np.float32) for _ in range(2))
    seen = np.sqrt((seen + real) ** 2 + imaginary**2)
    if random.random() < 0.15:  # a background set to nought
        seen = np.where(seen > 3 * deviation, seen, 0)
    back = interpolate(torch.from_numpy(seen.astype(np.float32))[None, None], (edge,) * 3, mode="trilinear")
    return np.asarray(back[0, 0].numpy())


def _field_of_view(edge: int, random: np.random.Generator) -> Mask:
    """All of the patch, or a slab of it, low, high or in the middle."""
    view = np.ones((edge,) * 3, bool)
    for axis, chance in ((0, 0.1), (1, 0.1), (2, 0.4)):
        if random.random() < chance:
            thick = int(random.uniform(THINNEST_SLAB_MM / GRID_MM if axis == 2 else 0.6 * edge, edge))
            first = int(random.integers(edge - thick + 1))
            outside = np.ones(edge, bool)
            outside[first : first + thick] = False
            np.moveaxis(view, axis, 0)[outside] = False
    return view


@lru_cache(maxsize=256)
def _near(head: Head) -> tuple[FloatImage, tuple[int, int, int]]:
    """Depth plus its largest value in a box around the brain, beyond which that is 0, and the corner of the box."""
    from_below = np.asarray(head.volume("depth"), np.float32) + np.float32(LARGEST_DEPTH_MM)
    box = bounding_box(from_below > 0)
    first, second, third = (int(part.start) for part in box)
    return np.ascontiguousarray(from_below[box]), (first, second, third)


def _within_ball(random: np.random.Generator) -> np.ndarray:
    way = random.standard_normal(3)
    return np.asarray(way / np.linalg.norm(way) * random.random())


def _rotation(x: float, y: float, z: float) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_euler("xyz", (x, y, z)).as_matrix())


def _tensor(volume: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(volume, np.float32))[None, None]

"""Brain extraction by a network that gives the depth below the brain's surface, after SynthStrip."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from qsmprep.masking.head import estimate_head, head_axes
from qsmprep.masking.morphology import fill_holes, largest_component
from qsmprep.nets.channels.magnitude import LARGEST_DEPTH_MM, magnitude_channel
from qsmprep.nets.inference_options import PRECISIONS, weights_option
from qsmprep.nets.role import Role
from qsmprep.numerics.arrays import DoubleArray, FloatImage
from qsmprep.options import check_options, option
from qsmprep.scan import Scan, Triple

if TYPE_CHECKING:
    import torch

    from qsmprep.nets.network import Network

SMALLEST_VIEW_MM = 90.0  # of the second longest edge of the field of view: that of a human head is longer
PATCH = 80  # edge of the patches of the training, in voxels of the network
OFFSET = 7  # voxels by which the patches lie off the brain's centre along each axis, less than in the training
RAMP = 12  # voxels over which the weight of a patch falls towards its rim
STEP = 12  # voxels by which further patches lie off these, where the brain goes on beyond them: 222 mm are seen then
CROSSING = 25  # voxels of brain (a square centimetre) in the outermost layer of a view with which the brain goes on


@dataclass(frozen=True)
class NetOptions:
    """Options of `net`."""

    role: ClassVar[Role] = Role("mask")
    weights: str = weights_option("masknet")
    precision: str = option(
        "float32",
        "number format inside the network; auto: bfloat16 where the processor calculates in it",
        choices=PRECISIONS,
    )
    border: float = option(
        0.0, "how far beyond the brain's surface the mask reaches; negative: how far below", unit="mm", low=-8, high=8
    )


@dataclass(frozen=True)
class _Layout:
    """How a volume comes to the network: axes left-right, back-front, bottom-top, then cubic voxels.

    `order` and `flips` are of the volume's axes, `shape` is that of the volume in this order, `conformed` that on the
    network's grid.
    """

    order: tuple[int, ...]
    flips: tuple[int, ...]
    shape: tuple[int, ...]
    conformed: tuple[int, ...]

    @classmethod
    def of(
        cls, shape: tuple[int, ...], voxel_mm: Triple, superior: Triple, anterior: Triple, edge_mm: float
    ) -> _Layout:
        order = _, front, up = head_axes(superior, anterior)
        flips = tuple(axis for axis, way in ((1, anterior[front]), (2, superior[up])) if way < 0)
        sizes = tuple(shape[axis] for axis in order)
        conformed = tuple(max(1, round(n * voxel_mm[axis] / edge_mm)) for n, axis in zip(sizes, order, strict=True))
        return cls(order, flips, sizes, conformed)

    def there(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(image.transpose(self.order), self.flips))

    def back(self, volume: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(volume, self.flips).transpose(np.argsort(self.order)))


def net(
    image: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    superior_direction: Triple = (0.0, 0.0, 1.0),
    anterior_direction: Triple = (0.0, 1.0, 0.0),
    options: NetOptions = NetOptions(),
    device: str = "cpu",
) -> np.ndarray:
    """Brain mask of a human head by a network that saw heads of any contrast, in voxels of any size.

    The network sees the head upright in cubic voxels, and gives the depth below the brain's surface in mm. The depth is
    brought back to the scan's voxels; the mask is where it exceeds nought, in one piece without holes.

    Parameters
    ----------
    image : (n0, n1, n2) magnitude, any scale; voxels that are not finite count as dark.
    network : a U-net from the magnitude to the depth below the brain's surface.
    scan : its voxel size.
    superior_direction, anterior_direction : towards the top of the head and the face, along the three voxel axes.
    options : weights, precision and where the border lies.
    device : "cpu", or a torch device.

    Returns
    -------
    (n0, n1, n2) bool.

    Raises
    ------
    ValueError : the image is not 3D, is empty, or too small for a human head; no brain is found; a network for another
        task.

    References
    ----------
    Hoopes 2022 (SynthStrip): a network that was trained on synthetic images alone gives the distance to the surface.
    """
    check_options(options)
    options.role.check(network.spec, "net", options.weights)
    if image.ndim != 3:
        raise ValueError(f"The mask network needs one 3D image, but this one has shape {image.shape}.")
    edges = [n * h for n, h in zip(image.shape, scan.voxel_size_mm, strict=True)]
    if sorted(edges)[1] < SMALLEST_VIEW_MM:
        raise ValueError(
            f"The images show {' x '.join(f'{edge:.0f}' for edge in edges)} mm, less than a human head, and the mask "
            "network knows human heads alone. Give a mask by --mask-file."
        )
    depth = brain_depth(
        image, network=network, scan=scan, superior_direction=superior_direction,
        anterior_direction=anterior_direction, precision=options.precision, device=device,
    )  # fmt: skip
    mask = fill_holes(largest_component(depth > -options.border))
    if not mask.any():
        raise ValueError(
            "The mask network found no brain in the magnitude; it knows human heads alone. Give a mask by --mask-file, "
            "or take --mask bet."
        )
    return mask


def brain_depth(
    image: np.ndarray,
    *,
    network: Network,
    scan: Scan,
    superior_direction: Triple,
    anterior_direction: Triple,
    precision: str = "float32",
    device: str = "cpu",
) -> FloatImage:
    """Depth in mm below the brain's surface, negative outside, as the network tells it: (n0, n1, n2) float32.

    Parameters
    ----------
    image, network, scan, superior_direction, anterior_direction, device : as in `net`.
    precision : one of `inference_options.PRECISIONS`.
    """
    import torch
    from torch.nn.functional import interpolate

    from qsmprep.nets.precision import bfloat16_is_fast, bounded_threads, exact

    edge_mm, device = network.spec.domain.voxel_size_mm, device.removeprefix("torch:")
    layout = _Layout.of(image.shape, scan.voxel_size_mm, superior_direction, anterior_direction, edge_mm)
    half = precision == "bfloat16" or (precision == "auto" and bfloat16_is_fast(device))
    seen = torch.from_numpy(layout.there(np.nan_to_num(image, posinf=0, neginf=0).astype(np.float32)))[None, None]
    with bounded_threads(), exact(half, device):
        conformed = _resized(seen, layout.conformed)[0, 0].numpy()
        found = torch.from_numpy(_depth_around(_head_centre(conformed, edge_mm), conformed, network, device))
        depth = interpolate(found[None, None], layout.shape, mode="trilinear", align_corners=False)[0, 0].numpy()
    return layout.back(depth)


def _head_centre(image: FloatImage, edge_mm: float) -> DoubleArray:
    """Centre of the head without its neck, in voxels; the image's where it shows no contrast."""
    try:
        return estimate_head(image, np.full(3, edge_mm), np.array([0.0, 0.0, 1.0])).centre_mm / edge_mm
    except ValueError:
        return (np.array(image.shape) - 1) / 2


def _depth_around(centre: DoubleArray, image: FloatImage, network: Network, device: str) -> FloatImage:
    """Depth by patches around the centre of the brain, which a first patch around that of the head finds.

    The network learned from patches of this size with the brain about their middle. Where the brain that it finds is
    cut by them, further ones are laid beyond; it knows nothing of what lies further away, which is no brain.
    """
    wide = np.pad(image, PATCH)
    view = np.pad(np.ones(image.shape, np.float32), PATCH)

    def box(middle: DoubleArray) -> tuple[slice, ...]:
        starts = (round(float(c)) + PATCH - PATCH // 2 for c in np.clip(middle, 0, np.array(image.shape) - 1))
        return tuple(slice(start, start + PATCH) for start in starts)

    first = box(centre)
    inside = _evaluated(wide[first], view[first], network, device) * view[first] > 0
    if inside.any():
        corner = np.array([part.start for part in first]) - PATCH
        centre = corner + np.array([places.mean() for places in np.nonzero(inside)])
    total, share = np.zeros_like(wide), np.zeros_like(wide)
    ramp = np.minimum(np.arange(PATCH) + 1, PATCH - np.arange(PATCH)).clip(max=RAMP).astype(np.float32)
    weight = ramp[:, None, None] * ramp[:, None] * ramp
    offsets = [[-OFFSET, OFFSET] for _ in range(3)]
    inner = (slice(PATCH, -PATCH),) * 3
    seen: set[tuple[int, ...]] = set()
    while new := [way for way in product(*offsets) if way not in seen]:
        for way in new:
            part = box(centre + np.array(way))
            total[part] += weight * _evaluated(wide[part], view[part], network, device)
            share[part] += weight
        seen.update(new)
        depth = np.where(share[inner] > 0, total[inner] / np.maximum(share[inner], 1), -LARGEST_DEPTH_MM)
        for axis, side in product(range(3), (-1, 1)):
            beyond = side * (OFFSET + STEP)
            if beyond not in offsets[axis] and _goes_on(depth > 0, share[inner] > 0, axis, side):
                offsets[axis].append(beyond)
    return np.ascontiguousarray(depth, np.float32)


def _goes_on(brain: np.ndarray, seen: np.ndarray, axis: int, way: int) -> bool:
    """Whether the brain reaches the last layer that was seen along an axis, and the image goes on beyond it."""
    layers = np.nonzero(seen.any(axis=tuple({0, 1, 2} - {axis})))[0]
    last = layers[-1 if way > 0 else 0]
    if last in (0, seen.shape[axis] - 1):
        return False
    return bool(np.count_nonzero(brain.take(last, axis)) > CROSSING)


def _evaluated(image: FloatImage, view: FloatImage, network: Network, device: str) -> FloatImage:
    """What the network says of one patch; nothing is brain where it has no signal at all."""
    import torch

    from qsmprep.nets.network import answer, channels_last

    if not (image > 0).any():
        return np.full(image.shape, -LARGEST_DEPTH_MM, np.float32)
    given, inside = (
        torch.from_numpy(np.ascontiguousarray(part))[None, None].to(device)
        for part in (magnitude_channel(image, view > 0), view)
    )
    module = channels_last(network.module.to(device)).eval()
    given = given.contiguous(memory_format=torch.channels_last_3d)
    return np.asarray(answer(network.spec, module, given, inside)[0, 0].float().cpu())


def _resized(volume: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """A (1, 1, ...) volume on a grid of the same edges: means where voxels grow, linear where they shrink."""
    from torch.nn.functional import interpolate

    smaller = [min(n, m) for n, m in zip(volume.shape[2:], shape, strict=True)]
    volume = interpolate(volume, smaller, mode="area")
    return interpolate(volume, shape, mode="trilinear", align_corners=False)

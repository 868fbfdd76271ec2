"""Patches that a network is shown: a pure function of the recipe, the heads and the number of the patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from qsmprep.nets.channels.iterated import iterated_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.network import CONSISTENT_KERNEL, UNROLLED_KERNEL
from qsmprep.nets.spec import EXPECTED_ERROR, NetworkSpec, quantities
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.scan import Scan
from qsmprep.training.heads import ALONG_THIRD_AXIS, SURROUNDINGS
from qsmprep.training.mask_patches import mask_patch
from qsmprep.training.pool import Head
from qsmprep.training.recipe import DataOptions
from qsmprep.training.shapes import random_shapes

LONGEST_SEARCH = 40  # corners tried for a patch with enough brain
BACKGROUND_SCALES = (0.4, 1.4)
SHIM_PPM = 0.05  # s.d. of each harmonic polynomial that another shim would leave
LARGEST_LEFTOVER = 0.6  # of the background after its removal, over the tissue field, r.m.s.; LBV alone leaves more
RATE_NOISE_PPM = 0.018  # highest s.d. of the noise of a relaxation rate over the relaxometric constant (2/s)
CONSTANT_PPM = 0.01  # a susceptibility map is known up to a constant, which is found about as well as this
# By which a patch's field is made, one drawn each time: no kernel is that of a scan, and none is to be relied upon.
KERNELS = ("integrated", "discrete", "greens")


Patch = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[float, float, float]]


@dataclass(frozen=True)
class Batch:
    """Patches and what they should become.

    Attributes
    ----------
    inputs, labels : (n, channels, p, p, p) in ppm, in the order of the description.
    mask : (n, 1, p, p, p), 1 inside.
    field : (n, 1, p, p, p) the tissue field without noise that belongs to the labels, ppm.
    dipole : (n, 1, g, g, g // 2 + 1) half spectrum of each patch's kernel on a padded grid.
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    mask: torch.Tensor
    field: torch.Tensor
    dipole: torch.Tensor

    def to(self, device: str) -> Batch:
        """The batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in ("inputs", "labels", "mask", "field", "dipole")))


def make_batch(spec: NetworkSpec, data: DataOptions, heads: Sequence[Head], size: int, key: Sequence[int]) -> Batch:
    """A batch of patches, the same for the same key.

    Parameters
    ----------
    spec : whose channels are made; their normalisation does not matter.
    data : how patches vary.
    heads : to draw from.
    size : patches of the batch.
    key : numbers that tell this batch from all others.
    """
    return joined(spec, [make_patch(spec, data, heads, np.random.default_rng([*key, i])) for i in range(size)])


def joined(spec: NetworkSpec, patches: Sequence[Patch]) -> Batch:
    """The batch of some patches."""
    inputs, labels, mask, field = (torch.from_numpy(np.stack([patch[i] for patch in patches])) for i in range(4))
    kind = CONSISTENT_KERNEL if spec.consistent else UNROLLED_KERNEL
    edge = mask.shape[-1]
    kernels = torch.stack([_kernel(edge, patch[4], kind) for patch in patches])[:, None]
    return Batch(inputs, labels, mask, field, kernels)


def make_patch(spec: NetworkSpec, data: DataOptions, heads: Sequence[Head], random: np.random.Generator) -> Patch:
    """Inputs, labels, mask, clean tissue field, each (channels, p, p, p), and direction of B0 of one patch."""
    if spec.task == "mask":
        image, depth, view = mask_patch(heads, data.patch, random)
        return image, depth, view, np.zeros_like(view), ALONG_THIRD_AXIS
    if random.random() < data.shapes:
        return _shape_patch(spec, data, random)
    head = heads[int(random.integers(len(heads)))]
    corner = _corner(head, data, random)
    window = tuple(slice(c, c + data.patch) for c in corner)
    read = _Reader(head, window, data.patch, _blur(data, random))
    scale = float(np.exp(random.uniform(np.log(data.smallest_scale), np.log(data.largest_scale))))
    filtered = spec.task == "inversion" and random.random() < data.filtered and not head.measured
    snr = float(np.exp(random.uniform(np.log(data.smallest_snr), np.log(data.largest_snr))))
    if head.measured:
        snr = 1.0
    mask = read("mask")
    if filtered:
        mask = mask * (read("tissue-field-removal") != 0)
    background = np.float32(random.uniform(*BACKGROUND_SCALES))
    if filtered:
        background = min(background, _bearable(read, scale))
    images = _quantities(spec, read, scale, background, snr, filtered, data, random)
    clean = scale * read("tissue-field")
    if filtered:
        clean = np.float32(scale) * read("tissue-field-removal") + background * read("background-removal")
    if spec.knows_kernel:
        chi = images["chi33:label"] if "chi33:label" in images else images["chi:label"]
        extra = images.get("off-diagonal-field:label", np.zeros_like(chi))
        if filtered:  # what the removal took away or left of the whole head's field is an error of the patch's too
            extra = extra + clean - np.float32(scale) * read("tissue-field")
        clean = _closed(chi, extra, mask, head.b0_direction, KERNELS[int(random.integers(len(KERNELS)))])
        images["tissue-field"] = clean + read("noise") / np.float32(snr)
        images |= _inversions(spec, images["tissue-field"], mask > 0, Scan((1.0, 1.0, 1.0), head.b0_direction))
    inputs = np.stack([images[name] for name in quantities(spec.inputs)]) * (mask if spec.masked else 1)
    labels = np.stack([images[f"{name}:label"] for name in quantities(spec.outputs)]) * mask
    patch = (inputs, labels, mask[None], clean[None] * mask, head.b0_direction)
    return turned(patch, random, all_axes=spec.takes_any_direction)


def _bearable(read: _Reader, scale: float) -> np.float32:
    """The factor with which what is left of the background is as large as the tissue's own field, times a share.

    Beyond it a patch tells nothing of its susceptibility, and its errors drown those of others.
    """
    left = float(np.linalg.norm(read("background-removal")))
    return np.float32(LARGEST_LEFTOVER * scale * float(np.linalg.norm(read("tissue-field"))) / left if left else np.inf)


def _closed(chi: np.ndarray, extra, mask: np.ndarray, b0_direction, kind: str) -> np.ndarray:
    """The field of the patch's own sources, as if there were no brain around it, plus what no scalar map explains.

    A network that knows the kernel compares its map's field with the data. Were the data cut from a whole head, the
    sources beyond the patch would be a misfit that no map of the patch explains, and that no whole head has.
    """
    edge = len(chi)
    wide = np.zeros((2 * edge,) * 3, np.float32)
    wide[:edge, :edge, :edge] = chi * mask
    field = irfftn(rfftn(wide) * _source_kernel(2 * edge, b0_direction, kind), wide.shape)[:edge, :edge, :edge]
    return np.ascontiguousarray(field + extra)


@lru_cache(maxsize=64)
def _source_kernel(edge: int, b0_direction: tuple[float, float, float], kind: str) -> np.ndarray:
    return dipole_kernel((edge,) * 3, (1.0, 1.0, 1.0), b0_direction, kind=kind)


def _inversions(spec: NetworkSpec, field: np.ndarray, mask: np.ndarray, scan: Scan) -> dict[str, np.ndarray]:
    """The closed-form inversions of a patch's field that the network is shown."""
    made = {"tkd": tkd_channel, "iterated": iterated_channel}
    wanted = [name for name in quantities(spec.inputs) if name in made]
    return {name: made[name](field, mask, scan=scan) if mask.any() else np.zeros_like(field) for name in wanted}


class _Reader:
    """Reads a window of a head's volumes as float32, zero beyond the volume, at the resolution of the patch."""

    def __init__(self, head: Head, window, edge: int, blur: tuple[float, ...] | None):
        self.head, self.window, self.edge, self.blur = head, window, edge, blur

    def __call__(self, name: str) -> np.ndarray:
        found = np.asarray(self.head.volume(name)[self.window], np.float32)
        if found.shape != (self.edge,) * 3:
            whole = np.zeros((self.edge,) * 3, np.float32)
            whole[tuple(slice(0, n) for n in found.shape)] = found
            found = whole
        # Fields, susceptibility and what is linear in them stay together when all are smoothed alike. Noise does not.
        if self.blur is None or name == "mask" or "noise" in name:
            return found
        beyond = name.endswith("-head")  # known wherever there is signal
        inside = found != 0 if beyond else self._inside
        share = self._share_of(inside) if beyond else self._share
        return np.where(inside, gaussian_filter(found, self.blur, truncate=3.0) / share, 0).astype(np.float32)

    @cached_property
    def _inside(self) -> np.ndarray:
        return _Reader(self.head, self.window, self.edge, None)("mask") > 0

    @cached_property
    def _share(self) -> np.ndarray:
        """Share of the brain in each voxel's surroundings."""
        return self._share_of(self._inside)

    def _share_of(self, inside: np.ndarray) -> np.ndarray:
        return np.maximum(gaussian_filter(inside.astype(np.float32), self.blur, truncate=3.0), 1e-3)


def _blur(data: DataOptions, random: np.random.Generator) -> tuple[float, ...] | None:
    """Standard deviations in voxels of a smoothing that makes voxels of 1 as large as drawn; None: as they are."""
    if data.coarsest == 1 or random.random() < 0.5:
        return None
    factors = np.exp(random.uniform(0, np.log(data.coarsest), 3))
    return tuple(float(s) for s in np.sqrt((factors**2 - 1) / 12))  # variance of a box


def _corner(head: Head, data: DataOptions, random: np.random.Generator) -> tuple[int, ...]:
    mask = head.volume("mask")
    best: tuple[int, ...] = (0, 0, 0)
    most = -1.0
    for _ in range(LONGEST_SEARCH):
        corner = tuple(int(random.integers(max(1, n - data.patch + 1))) for n in head.shape)
        share = float(mask[tuple(slice(c, c + data.patch, 4) for c in corner)].mean())
        if share >= data.foreground:
            return corner
        if share > most:
            best, most = corner, share
    return best


def _quantities(spec, read: _Reader, scale, background, snr, filtered, data, random) -> dict[str, np.ndarray]:
    """Every quantity that the network takes, and `NAME:label` for those it gives."""
    wanted = quantities(spec.inputs)
    scale, snr = np.float32(scale), np.float32(snr)
    images: dict[str, np.ndarray] = {}

    def removed(tissue: str, rest: str, noise: str) -> np.ndarray:
        """What a background field removal, or a truncated division after it, makes of the scaled fields."""
        return scale * read(tissue) + background * read(rest) + read(noise) / snr

    if "total-field" in wanted:
        total, tissue, noise = (read(name if spec.masked else SURROUNDINGS[name]) for name in SURROUNDINGS)
        rest = background * (total - tissue) + _shim(data.patch, random)
        images["total-field"] = (scale * tissue + rest + noise / snr) * (1 if spec.masked else total != 0)
    if "v-sharp" in wanted:
        found = removed("tissue-field-v-sharp", "background-v-sharp", "noise")
        images["v-sharp"] = found * (read("tissue-field-v-sharp") != 0)
    elif filtered:
        found = removed("tissue-field-removal", "background-removal", "noise")
        images["tissue-field"] = found * (read("tissue-field-removal") != 0)
    elif "tissue-field" in wanted:
        images["tissue-field"] = scale * read("tissue-field") + read("noise") / snr
    if "tkd" in wanted and spec.task == "total-inversion":
        images["tkd"] = removed("tkd-v-sharp", "tkd-background", "tkd-noise")
    elif "tkd" in wanted and filtered:
        images["tkd"] = removed("tkd-removal", "tkd-background-removal", "tkd-noise")
    elif "tkd" in wanted:
        images["tkd"] = scale * read("tkd") + read("tkd-noise") / snr
    if set(wanted) & {"r2star", "r2prime"}:
        images |= _rates(read, scale, random)
    if "chi" in wanted:
        found = random.random() < data.found
        chi = scale * read("chi-found" if found else "chi")
        images["chi"] = chi + np.float32(CONSTANT_PPM * random.uniform(-1, 1))
    labels = {"chi": "chi", "chi33": "chi", "off-diagonal-field": "off-diagonal-field", "tissue-field": "tissue-field",
              "chi-para": "chi-para", "chi-dia": "chi-dia", "r2prime": "r2prime"}  # fmt: skip
    images |= {f"{name}:label": scale * read(labels[name]) for name in quantities(spec.outputs) if name in labels}
    if spec.expects_error:  # no label tells it: it follows from the error of the first output
        images[f"{EXPECTED_ERROR}:label"] = np.zeros_like(images["chi:label"])
    if spec.task in ("inversion", "total-inversion") and not spec.knows_kernel:  # no field tells the constant
        images["chi:label"] = images["chi:label"] - scale * np.float32(read.head.mean("chi"))
    return images


def _rates(read: _Reader, scale: np.float32, random: np.random.Generator) -> dict[str, np.ndarray]:
    """R2* and R2' as measured; R2 stays when susceptibility is scaled, R2' follows it."""
    r2prime, r2star = read("r2prime"), read("r2star")
    noise = np.float32(RATE_NOISE_PPM * random.random() ** 2)
    measured = scale * r2prime + noise * random.standard_normal(r2prime.shape, np.float32)
    decay = r2star + (scale - 1) * r2prime + noise * random.standard_normal(r2prime.shape, np.float32)
    return {"r2prime": np.maximum(measured, 0), "r2star": np.maximum(decay, 0)}


def _shim(edge: int, random: np.random.Generator) -> np.ndarray:
    """A random harmonic polynomial of second order about some point near the patch, ppm."""
    axes = [np.linspace(-0.5, 0.5, edge, dtype=np.float32) + np.float32(random.uniform(-0.5, 0.5)) for _ in range(3)]
    x, y, z = (axis.reshape([-1 if a == d else 1 for a in range(3)]) for d, axis in enumerate(axes))
    c = (SHIM_PPM * random.standard_normal(9)).astype(np.float32)
    return (c[0] + c[1] * x + c[2] * y + c[3] * z + c[4] * (x * x - y * y) + c[5] * (2 * z * z - x * x - y * y) / 2
            + c[6] * x * y + c[7] * x * z + c[8] * y * z)  # fmt: skip


def _shape_patch(spec: NetworkSpec, data: DataOptions, random: np.random.Generator):
    chi, field = random_shapes(data.patch, random)
    noisy = field + np.float32(0.002 * random.random()) * random.standard_normal(field.shape, np.float32)
    images = {"tissue-field": noisy, "chi": chi, "chi33": chi, "off-diagonal-field": np.zeros_like(chi),
              EXPECTED_ERROR: np.zeros_like(chi)}  # fmt: skip
    images |= _inversions(spec, noisy, np.ones(chi.shape, bool), Scan((1.0, 1.0, 1.0)))
    inputs = np.stack([images[name] for name in quantities(spec.inputs)])
    if not spec.knows_kernel:
        images["chi"] = chi - chi.mean()
    labels = np.stack([images[name] for name in quantities(spec.outputs)])
    return inputs, labels, np.ones((1, *chi.shape), np.float32), field[None], (0.0, 0.0, 1.0)


def turned(patch: Patch, random: np.random.Generator, *, all_axes: bool) -> Patch:
    """A patch mirrored and turned by right angles as the physics allows, and the direction of B0 with them."""
    order = [0, 1, 2]
    if all_axes:
        order = [int(i) for i in random.permutation(3)]
    elif random.random() < 0.5:
        order = [1, 0, 2]
    flips = [axis for axis in range(3) if random.random() < 0.5]
    b = np.array(patch[4])
    b[flips] *= -1
    inputs, labels, mask, field = (
        np.ascontiguousarray(np.flip(image, tuple(axis + 1 for axis in flips)).transpose(0, *(i + 1 for i in order)))
        for image in patch[:4]
    )
    return inputs, labels, mask, field, (float(b[order[0]]), float(b[order[1]]), float(b[order[2]]))


@lru_cache(maxsize=256)
def _kernel(edge: int, b0_direction: tuple[float, float, float], kind: str) -> torch.Tensor:
    """Kernel on the grid on which networks that know it work in training: half as wide again, against wrap-around."""
    grid = fast_shape((edge + edge // 2 + (edge // 2) % 2,) * 3)
    grid = tuple(n + n % 2 for n in grid)
    return torch.from_numpy(dipole_kernel(grid, (1.0, 1.0, 1.0), b0_direction, kind=kind))

"""A network applied to the images of a scan: units, grid, precision and memory taken care of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.channels.total_field import total_field_channel
from qsmprep.nets.channels.vsharp import vsharp_channel
from qsmprep.nets.compensation import compensate_lattices
from qsmprep.nets.domain import FIELDS, check_units, coarser_than_trained, is_directed, outside_domain
from qsmprep.nets.geometry import NetworkGrid, network_grid
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.network import Network, clipped, forward
from qsmprep.nets.patches import around_mask, blending, boxes, patch_edge
from qsmprep.nets.precision import Precision, bounded_threads, choose_precision, exact
from qsmprep.nets.spec import NOT_NEGATIVE, quantities
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.options import check_options

TEST_EDGE = 64  # of the patch on which bfloat16 is tried
SUSCEPTIBILITIES = ("chi", "chi33")  # what is a field divided by the dipole kernel
DEFAULTS = InferenceOptions()


@dataclass(frozen=True)
class Prediction:
    """What a network made of a scan.

    Attributes
    ----------
    maps : quantity -> (n0, n1, n2) float32 in ppm, 0 outside the mask, >= 0 where the quantity cannot be negative.
    facts : name -> text or number worth stating.
    warnings : what the reader should worry about.
    """

    maps: dict[str, np.ndarray]
    facts: tuple[tuple[str, str | float], ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seen:
    """A scan, or a lattice of it, as the network sees it.

    Attributes
    ----------
    inputs_ppm : (channels, n0, n1, n2) float32 in the order of the network's inputs, 0 outside the mask.
    mask : (n0, n1, n2) bool.
    voxel_size_mm, b0_direction : of this grid.
    weights : (n0, n1, n2) of a non-linear data term, or None.
    radians : phase of 1 ppm in that term, or None.
    """

    inputs_ppm: np.ndarray
    mask: np.ndarray
    voxel_size_mm: tuple[float, float, float]
    b0_direction: tuple[float, float, float]
    weights: np.ndarray | None = None
    radians: float | None = None


def predict(
    network: Network,
    images: Mapping[str, np.ndarray],
    mask: np.ndarray,
    *,
    voxel_size_mm: tuple[float, float, float],
    b0_direction: tuple[float, float, float],
    options: InferenceOptions = DEFAULTS,
    weights: np.ndarray | None = None,
    radians: float | None = None,
    snr: float | None = None,
    adapt: Callable[[Network, Seen], Network] | None = None,
    memory_gb: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    device: str = "cpu",
) -> Prediction:
    """The maps that a network gives for a scan.

    Parameters
    ----------
    network : in evaluation mode or not; it is not changed but for the layout of its memory.
    images : quantity (of `spec.QUANTITIES`) -> (n0, n1, n2) in ppm; "v-sharp" and "tkd" are made here.
    mask : (n0, n1, n2) where they are valid.
    voxel_size_mm : edge lengths in mm.
    b0_direction : direction of B0 in voxel axes.
    options : grid, precision and patches.
    weights : (n0, n1, n2) of the non-linear data term of an unrolled network; None: the mask.
    radians : phase of 1 ppm in that term; None: the network's own.
    snr : peak signal-to-noise ratio of the scan as `qsmprep.nets.domain` defines it, to warn of one that was not
        trained on; None: not known.
    adapt : makes of the network one adapted to this scan, called once with what the network sees first.
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total) after each patch of each lattice.
    device : "cpu", or a torch device.

    Returns
    -------
    Prediction on the grid of the images.

    Raises
    ------
    ValueError : an image that the network needs is missing, shapes differ, the mask is empty, or a field is not in ppm.
    """
    check_options(options)
    spec, device = network.spec, device.removeprefix("torch:")
    given, inside = _checked(network, images, mask)
    grid = network_grid(
        inside.shape, voxel_size_mm=voxel_size_mm, b0_direction=b0_direction, wanted_mm=spec.domain.voxel_size_mm,
        resample=options.resampling == "auto", rotate=options.rotation == "auto" and is_directed(spec),
        largest_tilt_degrees=spec.domain.largest_tilt_degrees,
    )  # fmt: skip
    maps = {quantity: np.zeros(inside.shape, np.float32) for quantity in quantities(spec.outputs)}
    runner = None
    with bounded_threads():
        for number, lattice in enumerate(grid.lattices):
            seen = _seen(network, given, inside, grid, lattice, weights, radians)
            if seen.mask.any():
                if runner is None:
                    network = adapt(network, seen) if adapt is not None else network
                    runner = _Runner.of(network, seen, options, memory_gb, device)
                found = runner.run(seen, _part(progress, number, len(grid.lattices)))
                for quantity, values in zip(maps, found, strict=True):
                    grid.back(values, maps[quantity], lattice)
    if runner is None:
        raise ValueError("No voxel of the mask is left on the network's grid: the mask is too thin.")
    compensated = spec.task == "inversion" and max(grid.combs) > 1
    for quantity, values in maps.items():
        if compensated and quantity in SUSCEPTIBILITIES:
            values = compensate_lattices(
                values, combs=grid.combs_of_axes, voxel_size_mm=voxel_size_mm, b0_direction=b0_direction
            )
            maps[quantity] = values
        values[~inside] = 0
        if grid.resampled or grid.turn:
            maps[quantity] = _not_negative(spec, quantity, values)
    words = grid.words() + ("; dipole compensation of the lattices" if compensated else "")
    facts = (("grid of the network", words), ("precision", runner.precision.words()),
             ("patches", runner.words()))  # fmt: skip
    return Prediction(maps, facts, _warnings(network, grid, given, inside, voxel_size_mm, snr))


@dataclass(frozen=True)
class _Runner:
    """A network laid out for this machine, with its precision and the edge of its patches settled."""

    network: Network
    precision: Precision
    edge: int
    device: str

    @classmethod
    def of(cls, network: Network, seen: Seen, options: InferenceOptions, memory_gb: float, device: str) -> _Runner:
        network.module.to(device).to(memory_format=torch.channels_last_3d).eval()
        shape = around_mask(network.spec, seen.mask).shape
        edge = patch_edge(network.spec, shape, options.patch, memory_gb or _room_gb(device))
        middle = _middle(seen, TEST_EDGE)
        plain = cls(network, Precision(False), 0, device)
        precision = choose_precision(
            options.precision, device, lambda half: torch.as_tensor(plain._whole(middle, half))[None]
        )
        return cls(network, precision, edge, device)

    def words(self) -> str:
        return f"edge of {self.edge} voxels, overlapping" if self.edge else "none: the whole volume at once"

    def run(self, seen: Seen, progress: Callable[[int, int], None] | None) -> np.ndarray:
        """(outputs, n0, n1, n2) in ppm on the grid of what is seen."""
        return self._whole(seen, self.precision.half, self.edge, progress)

    def _whole(self, seen: Seen, half: bool, edge: int = 0, progress=None) -> np.ndarray:
        spec = self.network.spec
        frame = around_mask(spec, seen.mask)
        inputs = np.stack([frame.crop(channel) for channel in seen.inputs_ppm])
        mask = frame.crop(seen.mask)
        parts = boxes(frame.shape, edge)
        total = np.zeros((len(spec.outputs), *frame.shape), np.float32)
        share = np.zeros(frame.shape, np.float32)
        term = self._data_term(seen, frame) if spec.unrolled else {}
        for done, box in enumerate(parts, start=1):
            if mask[box].any():
                found = self._evaluate(inputs[(slice(None), *box)], mask[box], half, term)
                weight = blending(box, frame.shape, edge) if edge else np.float32(1)
                total[(slice(None), *box)] += weight * found
                share[box] += weight
            if progress is not None:
                progress(done, len(parts))
        if edge:
            total /= np.where(share > 0, share, 1)
        return np.stack([frame.restore(values) for values in total])

    def _evaluate(self, inputs: np.ndarray, mask: np.ndarray, half: bool, term: dict) -> np.ndarray:
        with exact(half, self.device):
            inputs, mask = (self._tensor(array) for array in (inputs, mask[None]))
            found = forward(self.network.spec, self.network.module, inputs, mask, **term)
            return clipped(self.network.spec, found.float())[0].cpu().numpy()

    def _data_term(self, seen: Seen, frame) -> dict:
        """What an unrolled network needs besides its inputs."""
        dipole = dipole_kernel(frame.shape, seen.voxel_size_mm, seen.b0_direction, kind="continuous")
        term = {"dipole": torch.as_tensor(dipole, device=self.device)}
        if self.network.spec.architecture.kind == "vandi":
            if seen.weights is not None:
                term["weights"] = self._tensor(frame.crop(seen.weights)[None])
            if seen.radians is not None:
                term["radians"] = seen.radians
        return term

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        batch = torch.as_tensor(np.ascontiguousarray(array), device=self.device)[None]
        return batch.contiguous(memory_format=torch.channels_last_3d)


def _checked(network: Network, images: Mapping[str, np.ndarray], mask: np.ndarray) -> tuple[dict, np.ndarray]:
    """The images the network needs as float32, 0 where they are not finite or outside the mask; the mask as bool."""
    spec, inside = network.spec, np.asarray(mask) > 0
    given = {"v-sharp": "total-field", "tkd": "tissue-field" if spec.task == "inversion" else "total-field"}
    needed = dict.fromkeys(given.get(name, name) for name in quantities(spec.inputs))
    if missing := [name for name in needed if images.get(name) is None]:
        raise ValueError(f"The network {spec.name} needs {', '.join(missing)}, not available here.")
    for name in needed:
        if np.ndim(images[name]) != 3 or np.shape(images[name]) != inside.shape:
            raise ValueError(f"The {name} and the mask must be 3-D and of one shape; got {np.shape(images[name])} and "
                             f"{inside.shape}.")  # fmt: skip
    if not inside.any():
        raise ValueError("The mask is empty: no voxel for the network.")
    usable = {n: np.where(inside & np.isfinite(images[n]), images[n], 0).astype(np.float32) for n in needed}
    check_units(usable, inside)
    if "total-field" in usable:
        usable["total-field"] = total_field_channel(usable["total-field"], inside)
    return usable, inside


def _seen(network, given, inside, grid: NetworkGrid, lattice, weights, radians) -> Seen:
    """One lattice on the grid of the network, with all of its input channels."""
    mask = grid.there(inside, lattice) > 0.5
    images = {name: grid.there(image, lattice) * mask for name, image in given.items()}
    geometry = {"voxel_size_mm": grid.voxel_size_mm, "b0_direction": grid.b0_direction}
    names = quantities(network.spec.inputs)
    if mask.any():
        images |= _derived(names, images, mask, **geometry)
    inputs = np.stack([images.get(name, np.zeros(mask.shape, np.float32)) for name in names])
    if weights is not None:
        weights = np.maximum(grid.there(np.where(inside, weights, 0), lattice), 0) * mask
    return Seen(inputs, mask, **geometry, weights=weights, radians=radians)


def _derived(names, images, mask, *, voxel_size_mm, b0_direction) -> dict[str, np.ndarray]:
    """The channels among the names that are computed of others."""
    made, field, valid = {}, images.get("tissue-field"), mask
    if field is None and {"v-sharp", "tkd"} & set(names):
        field, valid = vsharp_channel(images["total-field"], mask, voxel_size_mm=voxel_size_mm)
        made["v-sharp"] = field
    if "tkd" in names:
        made["tkd"] = tkd_channel(field, valid, voxel_size_mm=voxel_size_mm, b0_direction=b0_direction)
    return made


def _middle(seen: Seen, edge: int) -> Seen:
    """A cube from the middle of the mask."""
    box = []
    for axis, n in enumerate(seen.mask.shape):
        there = np.flatnonzero(seen.mask.any(axis=tuple(a for a in range(3) if a != axis)))
        start = min(max((there[0] + there[-1] + 1 - edge) // 2, 0), max(n - edge, 0))
        box.append(slice(start, start + edge))
    box = tuple(box)
    if not seen.mask[box].any():
        return seen
    weights = None if seen.weights is None else seen.weights[box]
    return Seen(seen.inputs_ppm[(slice(None), *box)], seen.mask[box], seen.voxel_size_mm, seen.b0_direction,
                weights, seen.radians)  # fmt: skip


def _warnings(network: Network, grid: NetworkGrid, given, inside, voxel_size_mm, snr) -> tuple[str, ...]:
    field = next((given[name] for name in FIELDS if name in given), None)
    deviation = None if field is None else float(field[inside].std(dtype=np.float64))
    return outside_domain(
        network.spec,
        voxel_size_mm=grid.voxel_size_mm,
        b0_direction=grid.b0_direction,
        field_deviation_ppm=deviation,
        snr=snr,
    ) + (coarser_than_trained(network.spec, voxel_size_mm) if grid.resampled else ())


def _not_negative(spec, quantity: str, values: np.ndarray) -> np.ndarray:
    return np.maximum(values, 0) if quantity in NOT_NEGATIVE else values


def _part(progress, number: int, count: int):
    """Progress of one of several lattices as part of the whole."""
    if progress is None:
        return None
    return lambda done, total: progress(number * total + done, count * total)


def _room_gb(device: str) -> float:
    """Memory free on a GPU, less a tenth; 0 (no limit) on the CPU."""
    if not device.startswith("cuda"):
        return 0.0
    return 0.9 * torch.cuda.mem_get_info(device)[0] / 2**30

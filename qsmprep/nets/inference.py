"""A network applied to the images of a scan: units, grid, precision and memory taken care of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from qsmprep.findings import Fact, Warning
from qsmprep.nets.channels.iterated import iterated_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.nets.channels.total_field import total_field_channel
from qsmprep.nets.compensation import compensate_lattices
from qsmprep.nets.domain import FIELDS, check_units, coarser_than_trained, is_directed, outside_domain
from qsmprep.nets.geometry import NetworkGrid, network_grid
from qsmprep.nets.inference_options import InferenceOptions
from qsmprep.nets.network import Network, answer, channels_last, clipped, forward, kernel_of, returned_to_data
from qsmprep.nets.patches import Middle, around_mask, blending, boxes, patch_edge
from qsmprep.nets.precision import Precision, bounded_threads, choose_precision, exact
from qsmprep.nets.seen import PhaseTerm, Seen
from qsmprep.nets.spec import NOT_NEGATIVE, NetworkSpec, quantities
from qsmprep.numerics.progress import Progress, part
from qsmprep.options import check_options
from qsmprep.scan import Scan

TEST_EDGE = 64  # of the patch on which bfloat16 is tried
SUSCEPTIBILITIES = ("chi", "chi33")  # what is a field divided by the dipole kernel
DEFAULTS = InferenceOptions()
# Total field in ppm, mask and scan -> tissue field in ppm, and where it is valid.
FieldFilter = Callable[[np.ndarray, np.ndarray, Scan], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Prediction:
    """What a network made of a scan.

    Attributes
    ----------
    maps : quantity -> (n0, n1, n2) float32 in ppm, 0 outside the mask, >= 0 where the quantity cannot be negative.
    facts : results worth stating.
    warnings : what the reader should worry about.
    """

    maps: dict[str, np.ndarray]
    facts: tuple[Fact, ...] = ()
    warnings: tuple[Warning, ...] = ()


# More than 8 parameters: the images and their scan, what single methods add to them, and where the network runs.
def predict(
    network: Network,
    images: Mapping[str, np.ndarray],
    mask: np.ndarray,
    *,
    scan: Scan,
    options: InferenceOptions = DEFAULTS,
    term: PhaseTerm | None = None,
    adapt: Callable[[Network, Seen], Network] | None = None,
    vsharp: FieldFilter | None = None,
    memory_gb: float = 0.0,
    progress: Progress | None = None,
    device: str = "cpu",
) -> Prediction:
    """The maps that a network gives for a scan.

    Parameters
    ----------
    network : in evaluation mode or not; it is not changed but for the layout of its memory.
    images : quantity (of `spec.QUANTITIES`) -> (n0, n1, n2) in ppm; "v-sharp", "tkd" and "iterated" are made here.
    mask : (n0, n1, n2) where they are valid.
    scan : voxel size and direction of B0.
    options : grid, precision and patches.
    term : of the non-linear data term of an unrolled network, or of an adaptation; None: the network's own.
    adapt : makes of the network one adapted to this scan, called once with what the network sees first.
    vsharp : makes the tissue field that networks of the total field are shown (`background.vsharp_channel`).
    memory_gb : that may be taken, in GiB; 0: no limit.
    progress : called as progress(done, total) after each patch of each lattice.
    device : "cpu", or a torch device.

    Returns
    -------
    Prediction on the grid of the images.

    Raises
    ------
    ValueError : an image or a function that the network needs is missing, shapes differ, the mask is empty, or a field
        is not in ppm.
    """
    check_options(options)
    spec, device = network.spec, device.removeprefix("torch:")
    given, inside = _checked(network, images, mask)
    grid = network_grid(
        inside.shape, scan=scan, wanted_mm=spec.domain.voxel_size_mm, resample=options.resampling == "auto",
        rotate=options.rotation == "auto" and is_directed(spec), largest_tilt_degrees=spec.domain.largest_tilt_degrees,
    )  # fmt: skip
    maps = {quantity: np.zeros(inside.shape, np.float32) for quantity in quantities(spec.outputs)}
    runner = None
    with bounded_threads():
        for number, lattice in enumerate(grid.lattices):
            seen = _seen(spec, given, inside, grid, lattice, term, vsharp)
            if seen.mask.any():
                if runner is None:
                    network = adapt(network, seen) if adapt is not None else network
                    runner = _Runner.of(network, seen, options, memory_gb, device)
                found = runner.run(seen, part(progress, number, len(grid.lattices)))
                for quantity, values in zip(maps, found, strict=True):
                    grid.back(values, maps[quantity], lattice)
    if runner is None:
        raise ValueError("No voxel of the mask is left on the network's grid: the mask is too thin.")
    compensated = spec.task == "inversion" and max(grid.combs) > 1
    maps = {name: _finished(name, values, grid, inside, scan if compensated else None) for name, values in maps.items()}
    words = grid.words() + ("; dipole compensation of the lattices" if compensated else "")
    facts = (
        Fact("network_grid", "grid it saw the scan on", "", words),
        Fact("network_precision", "precision", "", runner.precision.words()),
        Fact("network_patches", "patches", "", runner.words()),
    )
    return Prediction(maps, facts, _warnings(network, grid, given, inside, scan))


@dataclass(frozen=True)
class _Runner:
    """A network laid out for this machine, with its precision and the edge of its patches settled."""

    network: Network
    precision: Precision
    edge: int
    device: str

    @classmethod
    def of(cls, network: Network, seen: Seen, options: InferenceOptions, memory_gb: float, device: str) -> _Runner:
        channels_last(network.module.to(device)).eval()
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

    def run(self, seen: Seen, progress: Progress | None) -> np.ndarray:
        """(outputs, n0, n1, n2) in ppm on the grid of what is seen."""
        return self._whole(seen, self.precision.half, self.edge, progress)

    def _whole(self, seen: Seen, half: bool, edge: int = 0, progress: Progress | None = None) -> np.ndarray:
        spec = self.network.spec
        frame = around_mask(spec, seen.mask)
        inputs = np.stack([frame.crop(channel) for channel in seen.inputs_ppm])
        mask = frame.crop(seen.mask)
        parts = boxes(frame.shape, edge)
        total = np.zeros((len(spec.outputs), *frame.shape), np.float32)
        share = np.zeros(frame.shape, np.float32)
        term = self._data_term(seen, frame) if spec.knows_kernel else {}
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
        if spec.consistent:
            total = self._returned(total, inputs, mask, term["dipole"])
        return np.stack([frame.restore(values) for values in total])

    def _evaluate(self, inputs: np.ndarray, mask: np.ndarray, half: bool, term: dict[str, Any]) -> np.ndarray:
        with exact(half, self.device):
            given, inside = self._tensor(inputs), self._tensor(mask[None])
            spec, module = self.network.spec, self.network.module
            found = (
                forward(spec, module, given, inside, **term) if spec.unrolled else answer(spec, module, given, inside)
            )
            return np.asarray(clipped(spec, found.float())[0].cpu())

    def _returned(self, outputs: np.ndarray, inputs: np.ndarray, mask: np.ndarray, dipole: torch.Tensor) -> np.ndarray:
        """The whole answer, put together from its patches, returned to the data."""
        given = (self._tensor(outputs), self._tensor(inputs), self._tensor(mask[None]), dipole)
        with exact(False, self.device):
            return np.asarray(returned_to_data(self.network.spec, self.network.module, *given)[0].cpu())

    def _data_term(self, seen: Seen, frame: Middle) -> dict[str, Any]:
        """What a network that knows the kernel needs besides its inputs."""
        dipole = kernel_of(self.network.spec, frame.shape, seen.scan)
        return {"dipole": torch.as_tensor(dipole, device=self.device)}

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        batch = torch.as_tensor(np.ascontiguousarray(array), device=self.device)[None]
        return batch.contiguous(memory_format=torch.channels_last_3d)


def _checked(
    network: Network, images: Mapping[str, np.ndarray], mask: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The images the network needs as float32, 0 where not finite or outside what it sees; the mask as bool."""
    spec, inside = network.spec, np.asarray(mask) > 0
    field = "tissue-field" if spec.task == "inversion" else "total-field"
    given = {"v-sharp": "total-field", "tkd": field, "iterated": field}
    needed = dict.fromkeys(given.get(name, name) for name in quantities(spec.inputs))
    if missing := [name for name in needed if images.get(name) is None]:
        raise ValueError(f"The network {spec.name} needs {', '.join(missing)}, not available here.")
    for name in needed:
        if np.ndim(images[name]) != 3 or np.shape(images[name]) != inside.shape:
            raise ValueError(f"The {name} and the mask must be 3-D and of one shape; got {np.shape(images[name])} and "
                             f"{inside.shape}.")  # fmt: skip
    if not inside.any():
        raise ValueError("The mask is empty: no voxel for the network.")
    where = inside if spec.masked else np.ones_like(inside)
    usable = {n: np.where(where & np.isfinite(images[n]), images[n], 0).astype(np.float32) for n in needed}
    check_units(usable, inside)
    if "total-field" in usable:
        usable["total-field"] = total_field_channel(usable["total-field"], inside, beyond=not spec.masked)
    return usable, inside


def _seen(
    spec: NetworkSpec,
    given: Mapping[str, np.ndarray],
    inside: np.ndarray,
    grid: NetworkGrid,
    lattice: tuple[int, ...],
    term: PhaseTerm | None,
    vsharp: FieldFilter | None,
) -> Seen:
    """One lattice on the grid of the network, with all of its input channels."""
    mask = grid.there(inside, lattice) > 0.5
    images: dict[str, np.ndarray] = {
        name: grid.there(image, lattice) * (mask if spec.masked else grid.there(image != 0, lattice) > 0.5)
        for name, image in given.items()
    }
    if mask.any():
        images |= _derived(spec, images, mask, grid.scan, vsharp)
    inputs = np.stack([images.get(name, np.zeros(mask.shape, np.float32)) for name in quantities(spec.inputs)])
    if term is not None and term.weights is not None:
        weights = np.maximum(grid.there(np.where(inside, term.weights, 0), lattice), 0) * mask
        term = replace(term, weights=weights)
    return Seen(inputs, mask, grid.scan, term)


def _derived(
    spec: NetworkSpec,
    images: Mapping[str, np.ndarray],
    mask: np.ndarray,
    scan: Scan,
    vsharp: FieldFilter | None,
) -> dict[str, np.ndarray]:
    """The channels of a network that are computed of others."""
    made: dict[str, np.ndarray] = {}
    wanted = {"v-sharp", "tkd", "iterated"} & set(quantities(spec.inputs))
    if not wanted:
        return made
    if "tissue-field" in images:
        field, valid = images["tissue-field"], mask
    elif vsharp is None:
        raise ValueError(f"The network {spec.name} is shown V-SHARP's tissue field: give a function that makes it.")
    else:
        field, valid = vsharp(images["total-field"], mask, scan)
        made["v-sharp"] = field
    if "tkd" in wanted:
        made["tkd"] = tkd_channel(field, valid, scan=scan)
    if "iterated" in wanted:
        made["iterated"] = iterated_channel(field, valid, scan=scan)
    return made


def _middle(seen: Seen, edge: int) -> Seen:
    """A cube from the middle of the mask."""
    starts = []
    for axis, n in enumerate(seen.mask.shape):
        there = np.flatnonzero(seen.mask.any(axis=tuple(a for a in range(3) if a != axis)))
        starts.append(min(max((there[0] + there[-1] + 1 - edge) // 2, 0), max(n - edge, 0)))
    box = tuple(slice(start, start + edge) for start in starts)
    if not seen.mask[box].any():
        return seen
    term = seen.term
    if term is not None and term.weights is not None:
        term = replace(term, weights=term.weights[box])
    return Seen(seen.inputs_ppm[(slice(None), *box)], seen.mask[box], seen.scan, term)


def _warnings(
    network: Network, grid: NetworkGrid, given: Mapping[str, np.ndarray], inside: np.ndarray, scan: Scan
) -> tuple[Warning, ...]:
    field = next((given[name] for name in FIELDS if name in given), None)
    deviation = None if field is None else float(field[inside].std(dtype=np.float64))
    coarse = coarser_than_trained(network.spec, scan.voxel_size_mm) if grid.resampled else ()
    return outside_domain(network.spec, scan=grid.scan, field_deviation_ppm=deviation) + coarse


def _finished(
    quantity: str, values: np.ndarray, grid: NetworkGrid, inside: np.ndarray, lattices_of: Scan | None
) -> np.ndarray:
    """A map as it is handed on: interleaved lattices compensated where their scan is given, 0 outside the mask."""
    if lattices_of is not None and quantity in SUSCEPTIBILITIES:
        values = compensate_lattices(values, combs=grid.combs_of_axes, scan=lattices_of)
    values[~inside] = 0
    interpolated = grid.resampled or grid.turn
    return np.maximum(values, 0) if interpolated and quantity in NOT_NEGATIVE else values


def _room_gb(device: str) -> float:
    """Memory free on a GPU, less a tenth; 0 (no limit) on the CPU."""
    if not device.startswith("cuda"):
        return 0.0
    return 0.9 * torch.cuda.mem_get_info(device)[0] / 2**30

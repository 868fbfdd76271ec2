"""Background removal once more, from what a first susceptibility map leaves unexplained.

A method takes a part of the tissue's own field for background, most of all near the rim and around strong sources. The
field of a first, quick susceptibility map is taken off the total field, the background of the rest is removed, and that
field is put back: a mistake is then made in the small rest alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qsmprep.background import BackgroundRemoval
from qsmprep.field.weights import data_weights
from qsmprep.inversion.fansi import FansiOptions, fansi
from qsmprep.numerics.arrays import FloatImage, RealArray
from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.numerics.units import hz_to_ppm
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

PADDING = 24


@dataclass(frozen=True)
class RefinementOptions:
    """Options of the refinement of any background field removal."""

    passes: int = option(
        0, "times the background is removed once more from what a quick susceptibility map leaves", low=0, high=10
    )
    iterations: int = option(20, "iterations of the quick susceptibility map of each pass", low=1, high=1000)


def refine_background(
    total_field_hz: RealArray,
    first: BackgroundRemoval,
    remove: Callable[[FloatImage], BackgroundRemoval],
    *,
    scan: Scan,
    noise_hz: RealArray | None = None,
    options: RefinementOptions = RefinementOptions(),
    device: str = "cpu",
) -> BackgroundRemoval:
    """Tissue field <- D chi + removal(total field - D chi), chi being a quick map of the tissue field so far.

    Parameters
    ----------
    total_field_hz : (n0, n1, n2), in Hz.
    first : what background removal made of it.
    remove : the same background removal, for another field in Hz.
    scan : geometry, echo times and centre frequency.
    noise_hz : (n0, n1, n2) noise of the field, for the data weights of the map; None: weights of 1.
    options : passes, and iterations of each map.
    device : "cpu", or a torch device.

    Returns
    -------
    BackgroundRemoval in Hz, as `first` where no pass is asked for.

    References
    ----------
    Milovic 2018 (FANSI, here with the linear data term, for the map).
    """
    check_options(options)
    found, frequency = first, scan.frequency_mhz
    quick = FansiOptions(
        nonlinear=False, regularisation_weights="none", max_iterations=options.iterations, tolerance=0.0
    )
    for _ in range(options.passes):
        weights = found.mask.astype(np.float32)
        if noise_hz is not None:
            weights = data_weights(noise_hz=noise_hz, mask=found.mask)
        field_ppm = hz_to_ppm(found.tissue_field, frequency)
        chi = fansi(field_ppm, found.mask, scan=scan, weights=weights, options=quick, device=device).chi_ppm
        own = field_of(chi, scan) * np.float32(frequency)
        rest = remove(np.asarray(total_field_hz - own, np.float32))
        tissue = np.where(rest.mask, own + rest.tissue_field, 0).astype(np.float32)
        found = BackgroundRemoval(tissue, np.asarray(rest.mask) > 0, rest.convergence, first.warnings, first.facts)
    return found


def field_of(chi_ppm: FloatImage, scan: Scan) -> FloatImage:
    """Field in ppm of a susceptibility map in ppm, by the discrete kernel, with zeros around the volume."""
    shape = fast_shape(tuple(n + PADDING for n in chi_ppm.shape))
    padded = np.pad(chi_ppm, [(0, m - n) for m, n in zip(shape, chi_ppm.shape, strict=True)])
    kernel = dipole_kernel(shape, scan.voxel_size_mm, scan.b0_direction, kind="discrete")
    field: FloatImage = irfftn(rfftn(padded) * kernel, shape)[tuple(slice(0, n) for n in chi_ppm.shape)]
    return field

"""Chi-separation with iLSQR: field and R2' in turn, streaks removed from the total, sources not regularised."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.inversion.holes import residual_threshold_option
from qsmprep.inversion.ilsqr import fast_map, flatness, initial_map, laplacian_weights, streak_map
from qsmprep.inversion.inputs import Measurement
from qsmprep.numerics.arrays import FloatImage, Mask, RealArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.dipole import KERNELS, dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn, to_device, to_numpy
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import frame_around
from qsmprep.options import check_options, option
from qsmprep.scan import Scan
from qsmprep.separation import Constants, Separation, checked_maps
from qsmprep.separation.closed_form import both_sources


@dataclass(frozen=True)
class ChisepIlsqrOptions:
    """Options of chi-separation with iLSQR."""

    max_iterations: int = option(100, "cap on iterations of each of the two solves of iLSQR", low=1, high=1000)
    tolerance: float = option(3e-4, "relative normal residual at which the solve for the map stops", low=0, high=1)
    streak_tolerance: float = option(
        0.02, "relative normal residual at which the solve for the streaks stops", low=0, high=1
    )
    cone: float = option(0.1, "value of |D| below which streaks are looked for", low=1e-3, high=2 / 3)
    max_rounds: int = option(5, "cap on rounds of field and R2' after the first map", low=1, high=100)
    round_tolerance: float = option(1.0, "change of both maps at which to stop", unit="%", low=0, high=100)
    round_iterations: int = option(20, "cap on iterations of the two solves of a round", low=1, high=1000)
    residual_threshold: float = residual_threshold_option()
    kernel: str = option("continuous", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each map is named, and so is the image that may be there or not.
def chisep_ilsqr(
    field_ppm: RealArray,
    mask: Mask,
    *,
    r2prime: RealArray,
    constants: Constants,
    chi_ppm: RealArray,
    scan: Scan,
    relative_residual: RealArray | None = None,
    options: ChisepIlsqrOptions = ChisepIlsqrOptions(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Separation:
    """Both sources from an iLSQR map, R2', and the field that the two together leave unexplained.

    1. Total susceptibility by iLSQR, with the mean of `chi_ppm`, which the field does not tell.
    2. Both sources >= 0 of that total and of R2', voxel by voxel.
    3. What is left of the field after their sum is inverted by iLSQR too and added to the total; then 2 again.

    Parameters
    ----------
    field_ppm : (n0, n1, n2) tissue field in ppm.
    mask : (n0, n1, n2) where the field is valid.
    r2prime : (n0, n1, n2) in 1/s.
    constants : D_para and D_dia at the scan's field strength.
    chi_ppm : (n0, n1, n2) referenced susceptibility; its mean over the mask is kept.
    scan : geometry.
    relative_residual : (n0, n1, n2) of the echo combination; excludes voxels from the weights.
    options : parameters.
    progress : called as progress(maps, max_rounds + 1), the first map and one of each round.
    device : "cpu", or a torch device.

    Returns
    -------
    Separation in ppm.

    References
    ----------
    Shin 2021; Li 2015. The published solver is not public; its steps are those above.

    Examples
    --------
    A ball of 0.1 ppm of paramagnetic sources and 4 mm radius, from its field and its R2':

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> from qsmprep.separation import Constants
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> maps = {"chi_ppm": 0.1 * (r < 4), "r2prime": 11.4 * (r < 4)}
    >>> found = chisep_ilsqr(field_ppm, r < 9, **maps, constants=Constants(114.0, 114.0), scan=scan)
    >>> [round(float(image[r < 3].mean()), 2) for image in (found.chi_para, found.chi_dia)]
    [0.1, 0.01]
    """
    check_options(options)
    begin = time.perf_counter()
    inside, chi, rate = checked_maps(mask, chi_ppm=chi_ppm, r2prime=r2prime)
    mean = np.float32(chi[inside].mean(dtype=np.float64))
    given = Measurement(field_ppm, inside, scan, relative_residual=relative_residual)
    field, inside, measured = given.checked(options.residual_threshold)
    frame = frame_around(inside, padding=options.padding)
    field, here, measured, rate = (frame.crop(image) for image in (field * measured, inside, measured, rate))
    invert = _Inverter(field, here, measured, scan, options, device)
    short = replace(options, max_iterations=options.round_iterations)
    total = _with_mean(invert(field, options), here, mean)
    para, dia = both_sources(total, rate, constants)
    history: list[float] = []
    while True:
        if progress is not None:
            progress(len(history) + 1, options.max_rounds + 1)
        if len(history) == options.max_rounds or (history and history[-1] < options.round_tolerance):
            break
        left = (field - invert.field_of((para - dia) * here)) * measured
        total = _with_mean(para - dia + invert(left, short), here, mean)
        before = (para, dia)
        para, dia = both_sources(total, rate, constants)
        change = np.hypot(np.linalg.norm((para - before[0])[here]), np.linalg.norm((dia - before[1])[here]))
        size = np.hypot(np.linalg.norm(para[here]), np.linalg.norm(dia[here]))
        history.append(100 * float(change / max(size, 1e-30)))
    converged = history[-1] < options.round_tolerance
    end = ended(begin, history, converged, monitored="change of both maps in percent")
    return Separation(frame.restore(para * here), frame.restore(dia * here), inside, end)


class _Inverter:
    """iLSQR of a field whose weights are those of the measured one."""

    def __init__(
        self, field: FloatImage, inside: Mask, measured: Mask, scan: Scan, options: ChisepIlsqrOptions, device: str
    ):
        self.voxel_size_mm, self.device, self.inside = scan.voxel_size_mm, device, inside
        self.dipole = dipole_kernel(field.shape, scan.voxel_size_mm, scan.b0_direction, kind=options.kernel)
        weights = laplacian_weights(field, inside, scan.voxel_size_mm, absolute=False)
        weights[inside & ~measured] = 0
        self.weights, self.mask = to_device(weights, device), to_device(inside.astype(np.float32), device)
        self.there = to_device(self.dipole, device)
        fast = fast_map(to_device(field, device), self.mask, self.dipole, scan.voxel_size_mm, device)
        flat = flatness(to_numpy(fast), inside, scan.voxel_size_mm, absolute=True)
        self.flat = to_device(flat, device)
        self.cone = to_device((np.abs(self.dipole) < options.cone).astype(np.float32), device)

    def __call__(self, field: FloatImage, options: ChisepIlsqrOptions) -> FloatImage:
        """Susceptibility of a field, both (n0, n1, n2), without the streaks; 0 outside the mask."""
        initial, _ = initial_map(
            to_device(field, self.device), self.weights, self.mask, self.there,
            tolerance=options.tolerance, max_iterations=options.max_iterations,
        )  # fmt: skip
        streaks, _ = streak_map(
            initial, self.flat, self.cone, self.voxel_size_mm,
            tolerance=options.streak_tolerance, max_iterations=options.max_iterations,
        )  # fmt: skip
        return to_numpy(initial - streaks) * self.inside

    def field_of(self, chi: FloatImage) -> FloatImage:
        """Field of a susceptibility, (n0, n1, n2)."""
        there = to_device(chi, self.device)
        field: FloatImage = to_numpy(irfftn(rfftn(there) * self.there, tuple(there.shape)))
        return field


def _with_mean(chi: FloatImage, inside: Mask, mean: np.float32) -> FloatImage:
    shifted: FloatImage = chi + (mean - chi[inside].mean(dtype=np.float64)).astype(np.float32)
    return np.asarray(shifted * inside)

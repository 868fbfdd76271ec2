"""MEDI+0: MEDI with the cerebrospinal fluid of the ventricles held uniform, a reference that lies in the map itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from qsmprep.findings import Warning
from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import residual_threshold_option, two_pass_option
from qsmprep.inversion.inputs import Measurement
from qsmprep.inversion.medi_core import Prepared, adapt_to_noise_option, prepare
from qsmprep.inversion.solving import Solved, Solver, Workspace, solve_in_passes
from qsmprep.masking.ventricles import MINIMUM_VOXELS, csf_mask
from qsmprep.numerics.admm import Penalties, PhaseProblem, minimise_total_variation
from qsmprep.numerics.arrays import Mask, RealArray
from qsmprep.numerics.dipole import KERNELS
from qsmprep.numerics.fourier import irfftn, is_tensor, rfftn, to_device
from qsmprep.numerics.krylov import conjugate_gradient
from qsmprep.numerics.progress import Progress
from qsmprep.options import check_options, option
from qsmprep.scan import Scan

PULL_STEPS = 3  # conjugate gradient steps for the fluid's term in each iteration, at most
PULL_TOLERANCE = 0.03


@dataclass(frozen=True)
class Medi0Options:
    """Options of MEDI+0; the defaults are the consensus settings of MEDI and the published weight of the fluid."""

    data_weight: float = option(
        2000.0,
        "weight lambda of the data term against total variation, for phase in rad over one echo spacing",
        low=1e-6,
    )
    adapt_to_noise: bool = adapt_to_noise_option()
    csf_weight: float = option(100.0, "weight of the variation of chi inside the cerebrospinal fluid", low=0)
    csf_r2star: float = option(
        5.0, "R2* below which a central voxel is cerebrospinal fluid", unit="1/s", low=0.1, high=50
    )
    edge_percentage: float = option(
        0.9, "edge components of the magnitude's gradient, as a fraction of the mask voxels", low=0, high=3
    )
    smv_radius: float = option(5.0, "radius of the spherical mean filter; 0: none", unit="mm", low=0, high=50)
    merit: bool = option(True, "lower the weight of voxels that the model does not fit, after each outer iteration")
    residual_threshold: float = residual_threshold_option()
    two_pass: bool = two_pass_option()
    max_iterations: int = option(300, "cap on iterations", low=1, high=100000)
    tolerance: float = option(0.5, "change of chi at which to stop", unit="%", low=0, high=100)
    kernel: str = option("discrete", "form of the dipole kernel", choices=KERNELS)
    padding: int = option(16, "zeros added to each axis before the transform", unit="voxels", low=0, high=1024)


# More than 8 parameters: each image that may be there or not is named.
def medi0(
    field_ppm: RealArray,
    mask: Mask,
    *,
    scan: Scan,
    weights: RealArray | None = None,
    noise_hz: RealArray | None = None,
    magnitude_rss: RealArray | None = None,
    relative_residual: RealArray | None = None,
    r2star: RealArray | None = None,
    options: Medi0Options = Medi0Options(),
    progress: Progress | None = None,
    device: str = "cpu",
) -> Inversion:
    """Susceptibility as by MEDI, with a penalty on its variation inside the ventricles.

    min over x of lambda |m (exp(i D x) - exp(i f))|^2 + |w grad x|_1 + lambda_CSF |M_CSF (x - mean_CSF x)|^2, with f
    the phase in rad that the field gathers over one echo spacing and chi = x in ppm. The fluid is what
    `ventricles.csf_mask` finds in R2*. Shading and streaks that cross the ventricles are suppressed all over the brain.
    `adapt_to_noise` lowers lambda as in MEDI.

    The map is not yet referenced to the fluid: subtract its mean over the fluid afterwards (reference region "csf"),
    which makes values comparable between subjects.

    Parameters
    ----------
    field_ppm, mask, scan, weights, noise_hz, magnitude_rss, relative_residual : as for MEDI.
    r2star : (n0, n1, n2) in 1/s, where the fluid is found; None: MEDI, with a warning.
    options : parameters.
    progress : called as progress(iteration, max_iterations).
    device : "cpu", or a torch device.

    Returns
    -------
    Inversion with chi in ppm, 0 outside its mask, which SMV has eroded. It warns when R2* is missing or shows fewer
    than 100 voxels of fluid, for then there is no such term and the map is MEDI's.

    Raises
    ------
    ValueError if SMV leaves no voxel of the mask, or for inputs of wrong unit, shape or sign.

    References
    ----------
    Liu 2018 (MEDI+0); Liu 2012; Liu 2013 (non-linear data term, MERIT); Li 2011 (SMV).

    Examples
    --------
    A ball of 0.1 ppm and 4 mm radius, from its field by the formula of the sphere; without R2* no fluid is held:

    >>> import numpy as np
    >>> from qsmprep.scan import Scan
    >>> x, y, z = np.indices((20, 20, 20)) - 9.5
    >>> r = np.sqrt(x**2 + y**2 + z**2)
    >>> field_ppm = np.where(r > 4, 0.1 / 3 * (4 / r) ** 3 * (3 * (z / r) ** 2 - 1), 0)
    >>> scan = Scan((1, 1, 1), echo_times_s=(0.01, 0.02), centre_frequency_mhz=123.2)
    >>> found = medi0(field_ppm, r < 9, scan=scan, options=Medi0Options(smv_radius=2.0, kernel="continuous"))
    >>> chi = found.chi_ppm
    >>> round(float(chi[r < 3].mean() - chi[(r > 5) & found.mask].mean()), 2)
    0.08
    >>> len(found.warnings)
    1
    """
    check_options(options)

    def pose(measured: Measurement) -> tuple[Workspace, Solver]:
        given = prepare(measured, options, device)
        csf, warnings = _fluid(r2star, np.asarray(mask) > 0, given, scan.voxel_size_mm, options.csf_r2star)
        stiffness = options.csf_weight / given.data_weight if csf.any() else 0.0  # twice the term over 2 lambda
        problem, penalties = given.problem, given.penalties
        uniform = UniformRegion(to_device(csf, device), stiffness, problem, penalties) if stiffness > 0 else None
        solve = partial(
            minimise_total_variation,
            problem,
            penalties,
            tolerance_percent=options.tolerance,
            max_iterations=options.max_iterations,
            reweight=given.merit,
            correct=uniform,
        )
        return given.work, lambda *, progress: Solved(*solve(progress=progress), warnings=warnings)

    measured = Measurement(field_ppm, mask, scan, weights, magnitude_rss, noise_hz, relative_residual)
    return solve_in_passes(pose, measured, options, progress)


class UniformRegion:
    """Correction of a solve for stiffness/2 |A x|^2, where A x = x - mean x on a region.

    Without the term x = B r, with B = 1 / (mu_data D^2 + mu_gradient |k|^2). With it x = B (r - A' p), where the pull p
    on the region's voxels solves (1 / stiffness + A B A') p = A B r: a small problem, for which the pull of the solve
    before is already a good guess. (A split z = x would be cheaper, but it holds back every low frequency of the whole
    map, and hundreds of iterations do not suffice.)
    """

    def __init__(self, region: Any, stiffness: float, problem: PhaseProblem, penalties: Penalties):
        self.region, self.stiffness, self.shape = region, stiffness, tuple(problem.phase.shape)
        self.dipole = problem.grid.dipole
        bottom = penalties.mu_data * self.dipole**2 + penalties.mu_gradient * problem.grid.laplacian
        bottom[0, 0, 0] = 1
        self.inverse = 1 / bottom
        self.inverse[0, 0, 0] = 0
        self.pull = None

    def __call__(self, x: Any, forward: Any) -> tuple[Any, Any]:
        """Half spectra of x and D x of the solve with the term, from those of the one without (overwritten)."""
        wanted = self._deviation(irfftn(x + 0, self.shape))
        self.pull = conjugate_gradient(
            self._response, wanted, x0=self.pull, tolerance=PULL_TOLERANCE, max_iterations=PULL_STEPS
        ).x
        correction = self._spectrum(self.pull)
        x -= correction
        correction *= self.dipole
        forward -= correction
        return x, forward

    def _response(self, pull: Any) -> Any:
        return self._deviation(irfftn(self._spectrum(pull), self.shape)) + pull * (1 / self.stiffness)

    def _spectrum(self, pull: Any) -> Any:
        """Half spectrum of B A' p; p has no mean."""
        image = self.region * 0.0 if is_tensor(pull) else np.zeros(self.shape, np.float32)
        image[self.region] = pull
        spectrum = rfftn(image)
        spectrum *= self.inverse
        return spectrum

    def _deviation(self, image: Any) -> Any:
        """A x: the region's values without their mean."""
        values = image[self.region]
        return values - values.mean()


def _fluid(
    r2star: RealArray | None,
    inside: Mask,
    prepared: Prepared,
    voxel_size_mm: tuple[float, float, float],
    largest_r2star: float,
) -> tuple[Mask, tuple[Warning, ...]]:
    """The fluid on the padded grid and a warning; no fluid where R2* is missing or shows too little of it."""
    none = np.zeros(prepared.kept.shape, bool)
    if r2star is None:
        text = "MEDI+0 had no R2* to find cerebrospinal fluid in: the map is MEDI's."
        remedy = "Acquire several echoes and leave out --relaxometry none, or call it --inversion medi."
        return none, (Warning("medi0-without-r2star", text, remedy),)
    found = csf_mask(r2star, inside, voxel_size_mm=voxel_size_mm, largest_r2star=largest_r2star)
    csf = prepared.work.frame.crop(found) & prepared.kept
    count = int(np.count_nonzero(csf))
    if count < MINIMUM_VOXELS:
        text = (
            f"MEDI+0 found only {count} voxels of cerebrospinal fluid, fewer than {MINIMUM_VOXELS}: the map is MEDI's."
        )
        remedy = "Raise --medi0-csf-r2star if the R2* map shows fluid in the ventricles; else look at the mask there."
        return none, (Warning("medi0-without-fluid", text, remedy),)
    return csf, ()

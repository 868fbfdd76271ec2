"""What the iterative inversions share: a problem is posed on a padded grid, solved there, and its map brought back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from qsmprep.findings import Fact, Warning
from qsmprep.inversion import Inversion
from qsmprep.inversion.holes import HoleOptions, in_passes
from qsmprep.inversion.inputs import Measurement
from qsmprep.numerics.arrays import Array, FloatImage, Mask, RealArray
from qsmprep.numerics.convergence import ended
from qsmprep.numerics.fourier import to_device, to_numpy
from qsmprep.numerics.progress import Progress
from qsmprep.numerics.volume import Frame


class GridOptions(Protocol):
    """Options of a method that gives unreliable voxels no weight and works on a padded grid."""

    @property
    def residual_threshold(self) -> float:
        """Relative residual above which a voxel has no weight."""

    @property
    def kernel(self) -> str:
        """Form of the dipole kernel."""

    @property
    def padding(self) -> int:
        """Zeros added to each axis."""


class Solved(NamedTuple):
    """What a solver leaves.

    Attributes
    ----------
    x : (n0, n1, n2) solution on the padded grid, where the solver ran.
    history : the monitored quantity after each iteration.
    converged : whether the tolerance was met.
    monitored : what the history holds, in words.
    unlisted : iterations that the history leaves out.
    warnings : of the result.
    second : iteration at which a second part begins from a start of its own; 0: there is one part alone.
    """

    x: Array
    history: Sequence[float]
    converged: bool
    monitored: str = "change of chi in percent"
    unlisted: int = 0
    warnings: tuple[Warning, ...] = ()
    second: int = 0


class Solver(Protocol):
    """A posed problem: solved when it is called."""

    def __call__(self, *, progress: Progress | None) -> Solved | tuple[Array, list[float], bool]:
        """The solution, or its image, history, and whether the iteration converged."""


@dataclass(frozen=True)
class Workspace:
    """The padded grid on which a solver works, and the way back from it.

    Attributes
    ----------
    frame : of the padded grid in the volume.
    inside : (n0, n1, n2) bool, not padded: where the map is valid.
    device : where the solver runs: "cpu", or a torch device.
    begin : when the work began, by `time.perf_counter()`.
    scale : the solver's unit per ppm.
    facts : what the method found out about its input.
    """

    frame: Frame
    inside: Mask
    device: str
    begin: float
    scale: float = 1.0
    facts: tuple[Fact, ...] = ()

    def there(self, image: NDArray[Any]) -> Array:
        """An image (n0, n1, n2), padded, where the solver runs."""
        return to_device(self.frame.crop(image), self.device)

    def support(self) -> Array:
        """(n0, n1, n2) float32, padded, where the solver runs: 1 in the mask, 0 elsewhere."""
        return self.there(self.inside.astype(np.float32))

    def restored(self, x: Array) -> FloatImage:
        """An image of the padded grid as a volume in ppm, 0 where it is not valid."""
        restored: FloatImage = self.frame.restore(to_numpy(x))
        image = restored / np.float32(self.scale)
        image[~self.inside] = 0
        return image

    def inversion(self, solved: Solved) -> Inversion:
        """The map of a solution, and how its iteration ended."""
        chi = self.restored(solved.x)
        end = ended(self.begin, solved.history, solved.converged, monitored=solved.monitored, unlisted=solved.unlisted,
                    second=solved.second)  # fmt: skip
        unit = Fact("phase_per_ppm", "phase of 1 ppm, on which the weights of the method rest", "rad", self.scale)
        return Inversion(chi, self.inside, end, solved.warnings, ((unit,) if self.scale != 1 else ()) + self.facts)


def solve_in_passes(
    pose: Callable[[Measurement], tuple[Workspace, Solver]],
    measured: Measurement,
    options: HoleOptions,
    progress: Progress | None,
) -> Inversion:
    """Pose a problem, solve it and bring its map back, in one pass or two.

    Parameters
    ----------
    pose : makes the problem of what was measured. It holds nothing beyond what the solver needs, so that the memory of
        all else is free while that runs.
    measured : field, mask, scan and weights.
    options : of the method, see `in_passes`.
    progress : called as progress(iteration, cap).
    """

    def one_pass(relative_residual: RealArray | None, progress: Progress | None) -> Inversion:
        work, solve = pose(replace(measured, relative_residual=relative_residual))
        return work.inversion(Solved(*solve(progress=progress)))

    return in_passes(one_pass, measured.mask, measured.relative_residual, options, progress)

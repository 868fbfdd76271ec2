"""Node that combines the images of single coils, reading one coil after the other."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from nipype.interfaces.base import File, InputMultiPath, OutputMultiPath, traits

from qsmprep.bids.images import as_stored, open_image, stored_voxels
from qsmprep.coils.combination import CoilOptions
from qsmprep.findings import Fact, Note, read_notes
from qsmprep.interfaces.images import Stored, read_grid, scan_of, write_volume
from qsmprep.interfaces.step import MethodInputSpec, MethodStep, Record, StepOutputSpec, parameters
from qsmprep.numerics.arrays import FloatImage
from qsmprep.numerics.units import TWO_PI
from qsmprep.phase.scaling import PhaseScaling, find_scaling, real_imag_to_polar
from qsmprep.phase.sign import remove_slice_alternation, slice_alternation

BEYOND = 1.05  # of the period, or of what the coil holds that the scaling was found on


class CoilFiles:
    """Magnitude and phase of coils in files, read when they are needed: `qsmprep.coils.images.CoilImages`.

    Parameters
    ----------
    first, second : magnitude and phase, or real and imaginary part: files of the coils, echo by echo, or one file an
        echo that holds all of them along its last axis.
    n_coils, n_echoes : how many there are.
    units, manufacturer : what tells the unit of the phase.
    is_complex : whether the files are real and imaginary parts.
    called : what the last axis holds, for messages; volumes of a time series are read alike.

    Raises
    ------
    ValueError : phase that cannot be scaled to radians.
    """

    def __init__(
        self, first: Sequence[str], second: Sequence[str], *, n_coils: int, n_echoes: int, units: str = "",
        manufacturer: str = "", is_complex: bool = False, called: str = "coil",
    ):  # fmt: skip
        self.n_coils, self.n_echoes, self._called = n_coils, n_echoes, called
        self._in_one_file = len(first) == n_echoes
        self._paths = (list(first), list(second))
        # Opened once, so that a compressed file is read on from coil to coil, not from its beginning.
        self._open = {path: as_stored(open_image(path), keep_file_open=self._in_one_file)
                      for path in (*first, *second)}  # fmt: skip
        n0, n1, n2 = self._open[first[0]].shape[:3]
        self.shape: tuple[int, int, int] = (n0, n1, n2)
        self._scaling: PhaseScaling | None = None
        self._allowed = (-np.inf, np.inf)
        self._alternating: int | None = None
        if not is_complex:
            self._find_scaling(units, manufacturer)
        self._alternating = self._find_alternation()

    @property
    def rule(self) -> str:
        """How the phase became radians, in words."""
        return self._scaling.words if self._scaling else "computed from real and imaginary parts"

    @property
    def scaling(self) -> PhaseScaling | None:
        """The rule of the phase; None of real and imaginary parts."""
        return self._scaling

    @property
    def alternating_axis(self) -> int | None:
        """The axis along which every second slice had the opposite sign, which is corrected; None: there is none."""
        return self._alternating

    def read(self, coil: int, echo: int) -> tuple[FloatImage, FloatImage]:
        """Magnitude and phase in rad of one coil and echo; voxels that are not finite are 0."""
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda which: self._stored(which, coil, echo), (0, 1))
        if self._scaling is None:
            one, other = first.values(), second.values()
            if not one.any() and not other.any():
                return np.zeros(self.shape, np.float32), np.zeros(self.shape, np.float32)
            magnitude, phase = real_imag_to_polar(one, other)
        else:
            magnitude = np.nan_to_num(first.values().astype(np.float32), copy=False, posinf=0, neginf=0)
            numbers = second.numbers if self._scaling.from_raw else second.values()
            if not self._allowed[0] <= np.nanmin(numbers) <= np.nanmax(numbers) <= self._allowed[1]:
                raise ValueError(f"{self._path(1, coil, echo)}: the phase of {self._called} {coil + 1} is of another "
                                 f"unit than that of the others. Convert all {self._called}s together.")  # fmt: skip
            phase = self._scaling.apply(second.values(), second.numbers)
        if self._alternating is not None:
            phase = remove_slice_alternation(phase, self._alternating)
        return np.ascontiguousarray(magnitude), np.ascontiguousarray(phase)

    def _path(self, which: int, coil: int, echo: int) -> str:
        paths = self._paths[which]
        return paths[echo] if self._in_one_file else paths[echo * self.n_coils + coil]

    def _stored(self, which: int, coil: int, echo: int) -> Stored:
        path = self._path(which, coil, echo)
        proxy = self._open[path]
        beyond = tuple(coil if self._in_one_file and length > 1 else 0 for length in proxy.shape[3:])
        numbers = np.asanyarray(proxy[(slice(None), slice(None), slice(None), *beyond)])
        header = stored_voxels(open_image(path))
        return Stored(numbers, float(header.slope), float(header.inter))

    def _find_scaling(self, units: str, manufacturer: str) -> None:
        """Take the rule of the first coil that has a phase, of all echoes together, and the numbers that it allows."""
        failed: ValueError | None = None
        for coil in range(self.n_coils):
            images = [self._stored(1, coil, echo) for echo in range(self.n_echoes)]
            raw = [image.numbers for image in images] if images[0].is_scaled else None
            values = [image.values() for image in images]
            try:
                self._scaling = find_scaling(
                    values, raw=raw, units=units or None, manufacturer=manufacturer, slope=images[0].slope
                )
            except ValueError as error:
                failed = failed or error
                continue
            used = raw if raw is not None and self._scaling.from_raw else values
            low, high = min(np.nanmin(image) for image in used), max(np.nanmax(image) for image in used)
            width = BEYOND * max(float(high) - float(low), TWO_PI / self._scaling.factor)
            self._allowed = (float(high) - width, float(low) + width)
            return
        raise ValueError(f"{self._path(1, 0, 0)}: {failed}") from None

    def _find_alternation(self) -> int | None:
        """GE's slice alternation, by the first coil that has a signal."""
        for coil in range(self.n_coils):
            magnitude, phase = self.read(coil, 0)
            if magnitude.any():
                return slice_alternation(phase, magnitude).axis
        raise ValueError(
            f"{self._path(0, 0, 0)}: no {self._called} has any signal. Convert the scanner's images again."
        )


class CombineCoilsInputSpec(MethodInputSpec):
    """Inputs of `CombineCoils`: magnitude and phase, or real and imaginary part, as `CoilFiles` takes them."""

    magnitude_files = InputMultiPath(File(exists=True))
    phase_files = InputMultiPath(File(exists=True))
    real_files = InputMultiPath(File(exists=True))
    imaginary_files = InputMultiPath(File(exists=True))
    n_coils = traits.Int(mandatory=True)
    echo_times = traits.List(traits.Float, mandatory=True, desc="in seconds")
    units = traits.Str("", usedefault=True, desc="BIDS Units of the phase")
    manufacturer = traits.Str("", usedefault=True)
    coil_options = traits.Dict(desc="options of the step")
    notes = traits.List(traits.Dict, desc="what was decided before the graph was built, each with code and text")


class CombineCoilsOutputSpec(StepOutputSpec):
    """One file an echo, as the scanner would have combined them."""

    magnitude_files = OutputMultiPath(File(exists=True))
    phase_files = OutputMultiPath(File(exists=True), desc="in rad, wrapped")
    coherence = File(exists=True, desc="share of the first echo's signal that is left in the sum of the coils")


class CombineCoils(MethodStep):
    """Images of single coils to one magnitude and phase an echo."""

    input_spec = CombineCoilsInputSpec
    output_spec = CombineCoilsOutputSpec
    stage = "coil-combination"

    def _compute(self, folder: Path) -> Record:
        inputs = self.inputs
        is_complex = not inputs.phase_files
        first, second = ("real_files", "imaginary_files") if is_complex else ("magnitude_files", "phase_files")
        files = getattr(inputs, first)
        grid, options = read_grid(files[0]), CoilOptions(**(inputs.coil_options or {}))
        coils = CoilFiles(
            files, getattr(inputs, second), n_coils=inputs.n_coils, n_echoes=len(inputs.echo_times),
            units=inputs.units, manufacturer=inputs.manufacturer, is_complex=is_complex,
        )  # fmt: skip
        found, record = self._run_method(coils=coils, scan=scan_of(grid, inputs), sigma_mm=options.coil_sigma)
        record.parameters = parameters(options)
        record.note(*read_notes(inputs.notes or []), Note("coil-phase-scaling", f"Phase of the coils: {coils.rule}."))
        record.warn(*(coils.scaling.warnings if coils.scaling else ()))
        if coils.alternating_axis is not None:
            text = f"Sign of every second slice along axis {coils.alternating_axis} corrected (as GE stores it)."
            record.note(Note("coil-slice-alternation", text))
        inside = found.coherence[found.magnitude[0] > 0.1 * np.percentile(found.magnitude[0], 98)]
        record.state(Fact("coil_coherence_median", "median of the coherence where there is signal", "",
                          float(np.median(inside))))  # fmt: skip
        for name, echoes in (("magnitude", found.magnitude), ("phase", found.phase)):
            self._results[f"{name}_files"] = [
                write_volume(folder / f"{name}_echo-{number}.nii", image, grid)
                for number, image in enumerate(echoes, start=1)
            ]
        self._results["coherence"] = write_volume(folder / "coherence.nii", found.coherence, grid)
        return record

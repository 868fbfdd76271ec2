"""What may be chosen about the simulated head and its scan."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qsmprep.numerics.units import check_echo_times
from qsmprep.options import check_options, option

ANATOMIES = ("ellipsoids", "icbm152")
FIELD_OF_VIEW_MM = {"ellipsoids": (160.0, 200.0, 180.0), "icbm152": (192.0, 232.0, 180.0)}
VENDORS = ("radians", "siemens", "ge", "philips")


@dataclass(frozen=True)
class SimulationOptions:
    """The simulated acquisition; the defaults are an axial 3 T scan at 1 mm with five echoes."""

    anatomy: str = option(
        "ellipsoids",
        "what the head is made from; icbm152: the template's tissue maps, with skull, face and neck around the brain",
        choices=ANATOMIES,
    )
    voxel_size: str = option(
        "1,1,1", "edge lengths of a voxel, one for all axes or three", unit="mm", metavar="MM[,MM,MM]"
    )
    shape: str = option(
        "", "matrix size", none="a field of view of 160x200x180 mm; of 192x232x180 mm with icbm152", metavar="N,N,N"
    )
    tilt_x: float = option(0.0, "rotation of the slab about x, applied first", unit="degrees", low=-90, high=90)
    tilt_y: float = option(0.0, "rotation of the slab about y, applied second", unit="degrees", low=-90, high=90)
    field_strength: float = option(3.0, "strength of the main field", unit="T", low=1.0, high=10.5)
    echo_times: str = option(
        "0.005,0.011,0.017,0.023,0.029", "echo times of the gradient echo", unit="s", metavar="S[,S...]"
    )
    repetition_time: float = option(0.033, "repetition time of the gradient echo", unit="s", low=1e-3, high=10)
    flip_angle: float = option(15.0, "flip angle of the gradient echo", unit="degrees", low=0.1, high=90)
    peak_snr: float = option(
        100.0,
        "largest signal of a scan, of the brain with icbm152, over the standard deviation of its noise; 0: no noise",
        low=0,
    )
    oversampling: int = option(
        1,
        "factor of the finer grid that is simulated before k-space is cropped, for intra-voxel dephasing",
        low=1,
        high=4,
    )
    vendor: str = option("radians", "vendor whose number format and phase conventions the files have", choices=VENDORS)
    parts: str = option(
        "phase",
        "parts that are written; phase: magnitude and phase; complex: real and imaginary",
        choices=("phase", "complex"),
    )
    orientation: str = option(
        "RAS", "directions of the voxel axes of the files, such as RAS, LPS or PSR", metavar="AXES"
    )
    bipolar: bool = option(False, "add the phase plane of a bipolar readout, whose sign alternates from echo to echo")
    calcification: bool = option(False, "add a calcification, a sphere of 4 mm radius and -3.3 ppm")
    bleed: bool = option(False, "add a bleed, a sphere of 4 mm radius and +1 ppm")
    mese: bool = option(False, "also simulate a multi-echo spin echo scan of six echoes, 15 to 90 ms")
    mese_b1: str = option(
        "1,1",
        "transmit field of the spin echo scan over the nominal one, at the centre and at the rim of the head",
        metavar="CENTRE,RIM",
    )
    seed: int = option(0, "seed of the noise and of the anatomical variation", low=0)
    variation: float = option(
        0.0,
        "relative standard deviation of sizes, positions and susceptibilities; 0: the standard head",
        low=0,
        high=0.1,
    )
    texture: float = option(
        0.0, "standard deviation of smooth susceptibility variation within tissues, hardly seen in the magnitude; "
             "0: uniform",
        unit="ppm", low=0, high=0.1,
    )  # fmt: skip
    head_tilt_x: float = option(
        0.0, "rotation of the head in the slab about x, applied first", unit="degrees", low=-60, high=60
    )
    head_tilt_y: float = option(
        0.0, "rotation of the head in the slab about y, applied second", unit="degrees", low=-60, high=60
    )
    orientations: str = option(
        "",
        "head tilts about x and y, one run for each pair, such as 0,0;20,0;0,25",
        unit="degrees",
        none="one scan",
        metavar="X,Y[;X,Y...]",
    )
    subjects: int = option(1, "number of subjects", low=1, high=999)
    sessions: int = option(0, "number of sessions of each subject; 0: no session level", low=0, high=99)

    def voxel_size_mm(self) -> tuple[float, float, float]:
        """Voxel edge lengths as numbers; one number stands for three."""
        sizes = _numbers(self.voxel_size, "voxel_size")
        sizes = sizes * 3 if len(sizes) == 1 else sizes
        if len(sizes) != 3 or min(sizes) <= 0:
            raise ValueError(f"voxel_size is {self.voxel_size!r}; give one or three positive lengths in mm.")
        return sizes

    def grid_shape(self) -> tuple[int, int, int]:
        """Matrix size as integers; from the default field of view where it was left empty."""
        if not self.shape.strip():
            field_of_view = FIELD_OF_VIEW_MM[self.anatomy]
            n0, n1, n2 = (round(fov / h) for fov, h in zip(field_of_view, self.voxel_size_mm(), strict=True))
            return n0, n1, n2
        sizes = _numbers(self.shape.lower().replace("x", ","), "shape")
        if len(sizes) != 3 or any(size != int(size) or size < 1 for size in sizes):
            raise ValueError(f"shape is {self.shape!r}; give three positive whole numbers.")
        n0, n1, n2 = (int(size) for size in sizes)
        return n0, n1, n2

    def echo_times_s(self) -> np.ndarray:
        """Echo times in seconds, float64."""
        return check_echo_times(_numbers(self.echo_times, "echo_times"))

    def mese_b1_range(self) -> tuple[float, float]:
        """Transmit field of the spin echo scan over the nominal one: at the centre and at the rim of the head."""
        values = _numbers(self.mese_b1, "mese_b1")
        if len(values) != 2 or not all(0.3 <= value <= 1.7 for value in values):
            raise ValueError(f"mese_b1 is {self.mese_b1!r}; give two numbers from 0.3 to 1.7, such as 1.1,0.7.")
        return values

    def runs(self) -> tuple[SimulationOptions, ...]:
        """Options of each scan of a session: one for each of the orientations, or these options themselves."""
        if not self.orientations.strip():
            return (self,)
        pairs = [_numbers(pair, "orientations") for pair in self.orientations.split(";")]
        if any(len(pair) != 2 for pair in pairs):
            raise ValueError(f"orientations is {self.orientations!r}; give pairs of angles such as 0,0;20,0;0,25.")
        return tuple(replace(self, head_tilt_x=x, head_tilt_y=y, orientations="") for x, y in pairs)

    def checked(self) -> SimulationOptions:
        """These options. Raises ValueError naming the first one that is wrong."""
        check_options(self)
        self.voxel_size_mm(), self.grid_shape(), self.echo_times_s(), self.mese_b1_range()
        for run in self.runs():
            check_options(run)
            if self.anatomy == "ellipsoids" and self.texture and (run.head_tilt_x or run.head_tilt_y):
                raise ValueError("texture lies in the slab and would not turn with the head; leave one of the two out.")
        if sorted("LPI".find(c) if c in "LPI" else "RAS".find(c) for c in self.orientation) != [0, 1, 2]:
            raise ValueError(f"orientation is {self.orientation!r}; give three letters such as RAS, one of each pair "
                             "R/L, A/P, S/I.")  # fmt: skip
        return self


def _numbers(text: str, name: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in str(text).split(","))
    except ValueError:
        raise ValueError(f"{name} is {text!r}; expected numbers separated by commas.") from None
    if not np.all(np.isfinite(numbers)):
        raise ValueError(f"{name} is {text!r}; expected finite numbers.")
    return numbers

"""SWI as it was first described: one echo, its high-passed phase, and the fourth power of a linear mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qsmprep.findings import Fact
from qsmprep.numerics.arrays import FloatImage, RealArray
from qsmprep.numerics.elementary import whole_power
from qsmprep.numerics.phasors import angle, conjugate_product
from qsmprep.numerics.units import GYROMAGNETIC_RATIO_MHZ_PER_T
from qsmprep.options import option
from qsmprep.weighting import Weighted

USUAL_TIME_S_T = 0.060  # echo time times field strength: 40 ms at 1.5 T


@dataclass(frozen=True)
class HaackeSwiOptions:
    """Options of the classical SWI."""

    echo_time: float | None = option(
        None, "the echo nearest to this time is used", unit="s", low=1e-4, high=1, none="60 ms over the field in T"
    )
    low_pass: float = option(
        0.125, "share of k-space along each axis in a slice that the high-pass filter takes off: 64 of 512",
        low=0.01, high=1,
    )  # fmt: skip
    power: int = option(4, "how often the phase mask multiplies the magnitude", low=1, high=16)


def haacke_swi(
    magnitude: RealArray,
    phase: RealArray,
    *,
    echo_times_s: RealArray,
    centre_frequency_mhz: float,
    slice_axis: int = 2,
    options: HaackeSwiOptions | None = None,
) -> Weighted:
    """Susceptibility-weighted image of one echo.

    The image over its own low-passed self (Hanning window in k-space, slice by slice) gives the phase p; the weight is
    ((pi - p) / pi)^power where p > 0, where sources are paramagnetic, and 1 elsewhere.

    Parameters
    ----------
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad, wrapped or not, growing with the field.
    echo_times_s : of the echoes.
    slice_axis : across the slices.

    References
    ----------
    Haacke et al. 2004, Magn Reson Med 52:612-618; Reichenbach et al. 1997, Radiology 204:272-277.
    """
    options = options or HaackeSwiOptions()
    times = np.asarray(echo_times_s, float)
    wanted = options.echo_time or USUAL_TIME_S_T * GYROMAGNETIC_RATIO_MHZ_PER_T / centre_frequency_mhz
    echo = int(np.abs(times - wanted).argmin())
    image = np.asarray(magnitude[echo], np.float32)
    high = homodyne_phase(image, phase[echo], slice_axis=slice_axis, share=options.low_pass)
    weights = whole_power(np.where(high > 0, (np.pi - high) / np.pi, 1).clip(0, 1).astype(np.float32), options.power)
    facts = (
        Fact("swi_echo", "echo used, counted from 1", "", echo + 1),
        Fact("swi_echo_time", "its echo time", "s", float(times[echo])),
    )
    return Weighted((image * weights).astype(np.float32), image, weights, facts)


def homodyne_phase(magnitude: RealArray, phase: RealArray, *, slice_axis: int, share: float) -> FloatImage:
    """Phase (n0, n1, n2) in rad, without what varies slowly within a slice; 0 where there is no signal."""
    from scipy.fft import fft2, ifft2

    axes = tuple(axis for axis in range(3) if axis != slice_axis)
    signal = magnitude * np.exp(1j * np.asarray(phase, np.float32))
    spectrum = fft2(signal.astype(np.complex64), axes=axes)
    for axis in axes:
        n = signal.shape[axis]
        distance = np.abs(np.fft.fftfreq(n)) / (share / 2)  # 1 at the edge of the window
        window = np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * np.minimum(distance, 1)), 0)
        spectrum = spectrum * np.expand_dims(window, [other for other in range(3) if other != axis])
    return np.asarray(angle(conjugate_product(signal, ifft2(spectrum, axes=axes))), np.float32)

"""What the scanner adds to the anatomy: shim, coil phase, spoiled gradient echoes, spin echoes, noise."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.threads import thread_count
from qsmprep.relaxometry.epg import echo_train

BIPOLAR_PLANE_RAD = 0.3


def shim(field: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The field less its least-squares second-order polynomial over the mask (what a good shim leaves).

    Parameters
    ----------
    field : (n0, n1, n2), any unit.
    mask : bool, where the polynomial is fitted.

    Returns
    -------
    float32 array of the same unit; its mean over the mask is 0.
    """
    axes = [np.linspace(-1, 1, n) for n in field.shape]
    powers = [p for p in np.ndindex(3, 3, 3) if sum(p) <= 2]
    inside = [axis[index] for axis, index in zip(axes, np.nonzero(mask), strict=True)]
    basis = np.stack([inside[0] ** p[0] * inside[1] ** p[1] * inside[2] ** p[2] for p in powers])
    # einsum, not BLAS: the same sums whatever the number of threads.
    normal, right = np.einsum("ip,jp->ij", basis, basis), np.einsum("ip,p->i", basis, field[mask].astype(float))
    coefficients = np.linalg.solve(normal, right)
    x, y, z = (axis.astype(np.float32).reshape([-1 if a == d else 1 for a in range(3)]) for d, axis in enumerate(axes))
    shimmed = field.astype(np.float32)
    for c, p in zip(coefficients, powers, strict=True):
        shimmed -= np.float32(c) * x ** p[0] * y ** p[1] * z ** p[2]
    return shimmed


def coil_phase(m0: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Phase offset of the receiver in rad: a parabola about the centre of mass that spans pi over the mask."""
    squares = _distance(m0 * mask)
    span = squares[mask].max() - squares[mask].min()
    return (-np.pi / span * squares).astype(np.float32)


def receive_field(shape: tuple[int, ...]) -> np.ndarray:
    """Sensitivity of an array of coils around the head: 1 at the rim of the field of view, about half in its middle."""
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32).reshape([-1 if a == d else 1 for a in range(3)])
               for d, n in enumerate(shape))  # fmt: skip
    return np.clip(0.5 + 0.35 * (x**2 + y**2) + 0.15 * (z + 0.2) ** 2 + 0.06 * y - 0.04 * x * z, 0.3, 1.6)


def transmit_field(m0: np.ndarray, mask: np.ndarray, centre: float, rim: float) -> np.ndarray:
    """Transmit field over the nominal one: a parabola from `centre` to `rim`, its range over the mask."""
    squares = _distance(m0 * mask)
    low, high = squares[mask].min(), squares[mask].max()
    return (centre + (rim - centre) * np.clip((squares - low) / (high - low), 0, 1)).astype(np.float32)


def spin_echo_trains(
    maps: dict[str, np.ndarray],
    transmit: np.ndarray,
    *,
    repetition_time_s: float,
    echo_spacing_s: float,
    n_echoes: int,
) -> np.ndarray:
    """Amplitudes of a train of 180-degree pulses as the transmit field makes them: (n_echo, n0, n1, n2) float32."""
    shape = transmit.shape
    trains = np.zeros((n_echoes, *shape), np.float32)
    for plane in range(shape[0]):
        m0, r2, r1, b1 = (image[plane].ravel() for image in (maps["m0"], maps["r2"], maps["r1"], transmit))
        shining = np.flatnonzero((m0 > 0) & (r2 > 0) & (r1 > 0))
        start = m0[shining] * (1 - np.exp(np.float32(-repetition_time_s) * r1[shining]))
        echoes = echo_train(
            1 / r2[shining], 1 / r1[shining], b1[shining], echo_spacing_s=echo_spacing_s, n_echoes=n_echoes
        )
        trains[:, plane].reshape(n_echoes, -1)[:, shining] = echoes.T * start
    return trains


def _distance(weights: np.ndarray) -> np.ndarray:
    """Squared distance from the centre of mass of the weights, in standard deviations along each axis."""
    total = weights.sum(dtype=float)
    squares = np.zeros((1, 1, 1))
    for axis, n in enumerate(weights.shape):
        profile = weights.sum(axis=tuple(a for a in range(3) if a != axis), dtype=float)
        position = np.arange(n)
        centre = (profile * position).sum() / total
        width = np.sqrt((profile * (position - centre) ** 2).sum() / total)
        squares = squares + (((position - centre) / width) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    return squares


def steady_state(m0: np.ndarray, r1: np.ndarray, repetition_time_s: float, flip_angle_deg: float) -> np.ndarray:
    """Magnitude of the spoiled gradient echo at TE = 0: M0 sin(a) (1 - E1) / (1 - cos(a) E1), E1 = exp(-TR R1)."""
    angle = np.deg2rad(flip_angle_deg)
    e1 = np.exp(-np.float32(repetition_time_s) * r1)
    return m0 * np.float32(np.sin(angle)) * (1 - e1) / (1 - np.float32(np.cos(angle)) * e1)


def bipolar_plane(size: int) -> np.ndarray:
    """Phase in rad along the readout (first axis) that odd echoes gain and even echoes lose."""
    return (BIPOLAR_PLANE_RAD * ((np.arange(size) + 0.5) / size - 0.5)).astype(np.float32)[:, None, None]


def crop_k_space(signal: np.ndarray, factor: int) -> np.ndarray:
    """Complex image of a scanner that samples only the centre of k-space: `factor` times fewer voxels an axis.

    The intensity is kept, and the voxels' centres lie where blocks of `factor` fine voxels have theirs.
    """
    from scipy.fft import fft, ifft

    for axis, size in enumerate(signal.shape):
        coarse = size // factor
        kept = np.fft.fftfreq(coarse, 1 / coarse).astype(int)
        shift = np.exp(2j * np.pi * kept * (factor - 1) / 2 / size) / factor
        spectrum = np.take(fft(signal, axis=axis, workers=thread_count()), kept % size, axis=axis)
        spectrum *= shift.astype(np.complex64).reshape([-1 if a == axis else 1 for a in range(3)])
        signal = ifft(spectrum, axis=axis, workers=thread_count())
    return signal


def add_noise(signal: np.ndarray, deviation: float, random: np.random.Generator) -> None:
    """Add complex Gaussian noise, `deviation` in each of the real and the imaginary part, in place."""
    if deviation > 0:
        for part in (signal.real, signal.imag):
            part += np.float32(deviation) * random.standard_normal(signal.shape, np.float32)


def block_mean(image: np.ndarray, factor: int) -> np.ndarray:
    """Mean over blocks of `factor` voxels an axis, float32 or complex64."""
    if factor == 1:
        return image
    n0, n1, n2 = (n // factor for n in image.shape)
    kind = np.complex64 if np.iscomplexobj(image) else np.float32
    return image.reshape(n0, factor, n1, factor, n2, factor).mean(axis=(1, 3, 5), dtype=kind)

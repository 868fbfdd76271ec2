"""The simulated head in memory: anatomy through scanner, with everything that is true about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.numerics.units import centre_frequency_mhz
from qsmprep.phantom.anatomy import individual_head
from qsmprep.phantom.forward import DipoleField
from qsmprep.phantom.grid import simulation_grid, slab_affine
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.person_head import person_and_fields
from qsmprep.phantom.rendering import render, render_head
from qsmprep.phantom.scanner import (
    add_noise,
    bipolar_plane,
    block_mean,
    coil_phase,
    crop_k_space,
    receive_field,
    shim,
    spin_echo_trains,
    steady_state,
    transmit_field,
)
from qsmprep.phantom.tissues import TISSUES, label_names
from qsmprep.scan import Scan

FAT_PPM = -3.4  # of its frequency
MESE_ECHO_TIMES_S = (0.015, 0.030, 0.045, 0.060, 0.075, 0.090)
MESE_REPETITION_TIME_S = 3.0


@dataclass(frozen=True)
class SimulatedHead:
    """One simulated acquisition and its truth. Images are float32 of the grid's shape unless said otherwise.

    Attributes
    ----------
    magnitude, phase : (n_echo, n0, n1, n2); phase in rad, wrapped, phi = +2 pi f TE (+ the receiver's offset).
    echo_times_s : (n_echo,) float64.
    affine : (4, 4) voxel to world, mm.
    voxel_size_mm, b0_direction : the latter a unit vector in voxel axes.
    field_strength_t, centre_frequency_mhz : of the scanner.
    noise_deviation : s.d. of the noise in each of the real and the imaginary part.
    chi_ppm : susceptibility of the whole head and of the air around it.
    chi_para, chi_dia : magnitudes (both >= 0) of its positive and its negative part; chi_ppm is their difference.
    total_field_hz : field of the whole head after the shim, everywhere.
    local_field_hz : field of chi_ppm * brain_mask, inside the mask (0 outside), not demeaned.
    r2star, r2, r2prime, r1 : rates, 1/s; r2star = r2 + r2prime.
    m0 : proton density relative to water.
    phase_offset : phase of the receiver at TE = 0, rad.
    brain_mask : bool; voxels at least half brain and free of bone and air.
    labels : uint8 index of the tissue that fills most of the voxel.
    label_names : index to name.
    mese_magnitude : (n_echo, n0, n1, n2) or None; mese_echo_times_s : its echo times.
    mese_b1 : transmit field of that scan over the nominal one, or None.
    """

    magnitude: np.ndarray
    phase: np.ndarray
    echo_times_s: np.ndarray
    affine: np.ndarray
    voxel_size_mm: tuple[float, float, float]
    b0_direction: tuple[float, float, float]
    field_strength_t: float
    centre_frequency_mhz: float
    noise_deviation: float
    chi_ppm: np.ndarray
    chi_para: np.ndarray
    chi_dia: np.ndarray
    total_field_hz: np.ndarray
    local_field_hz: np.ndarray
    r2star: np.ndarray
    r2: np.ndarray
    r2prime: np.ndarray
    r1: np.ndarray
    m0: np.ndarray
    phase_offset: np.ndarray
    brain_mask: np.ndarray
    labels: np.ndarray
    label_names: dict[int, str]
    mese_magnitude: np.ndarray | None = None
    mese_echo_times_s: np.ndarray | None = None
    mese_b1: np.ndarray | None = None

    @property
    def scan(self) -> Scan:
        """What the steps must know of this acquisition."""
        return Scan(
            self.voxel_size_mm, self.b0_direction, tuple(self.echo_times_s), self.centre_frequency_mhz,
            self.field_strength_t,
        )  # fmt: skip

    def region(self, name: str) -> np.ndarray:
        """Mask (bool) of the voxels in which a tissue prevails."""
        return self.labels == TISSUES[name].label


def simulate_head(
    options: SimulationOptions = SimulationOptions(),  # noqa: B008
    *,
    subject: int = 0,
    session: int = 0,
    run: int = 0,
    tell: Callable[[str], None] | None = None,
) -> SimulatedHead:
    """Simulate one acquisition of the ellipsoid head.

    Parameters
    ----------
    options : the acquisition.
    subject, session, run : from 0; change the noise, and the subject the anatomy if `options.variation` is not 0.
    tell : called with a line of text before each stage.

    Returns
    -------
    The images and the truth.

    Raises
    ------
    ValueError : an option out of range, or a field of view that does not hold the brain.
    """
    options = options.checked()
    tell = tell or (lambda text: None)
    affine = slab_affine(options)
    b = b0_direction_from_affine(affine)
    factor = options.oversampling
    made = person_and_fields if options.anatomy == "icbm152" else _anatomy_and_fields
    fine, labels, mask = made(options, subject, b, tell)
    fine["total_field_hz"] = shim(fine["total_field_hz"], _repeat(mask, factor))
    fine["phase_offset"] = coil_phase(fine["m0"], _repeat(mask, factor))
    fine["r2star"] = fine["r2"] + fine["r2prime"]
    tell("signal")
    echo_times = options.echo_times_s()
    signal = _gradient_echoes(fine, echo_times, options)
    random = np.random.default_rng([options.seed, subject, session, 2, *([run] if run else [])])
    # A template's head has fat, far brighter than the brain of which the user thinks.
    seen = np.abs(signal[0])[mask] if options.anatomy == "icbm152" else np.abs(signal[0])
    deviation = float(seen.max()) / options.peak_snr if options.peak_snr else 0.0
    for echo in signal:
        add_noise(echo, deviation, random)
    transmit = transmit_field(fine["m0"], _repeat(mask, factor), *options.mese_b1_range())
    mese = _spin_echoes(fine, transmit, random, options) if options.mese else None
    truth = {name: block_mean(image, factor) for name, image in fine.items()}
    names = ("chi_para", "chi_dia", "total_field_hz", "r2star", "r2", "r2prime", "r1", "m0", "phase_offset")
    return SimulatedHead(
        magnitude=np.abs(signal),
        phase=np.angle(signal),
        echo_times_s=echo_times,
        affine=affine,
        voxel_size_mm=options.voxel_size_mm(),
        b0_direction=b,
        field_strength_t=options.field_strength,
        centre_frequency_mhz=centre_frequency_mhz(options.field_strength),
        noise_deviation=deviation,
        chi_ppm=truth["chi_para"] - truth["chi_dia"],
        local_field_hz=truth["local_field_hz"] * mask,
        brain_mask=mask,
        labels=labels,
        label_names=label_names(),
        mese_magnitude=mese,
        mese_b1=block_mean(transmit, factor) if options.mese else None,
        mese_echo_times_s=np.array(MESE_ECHO_TIMES_S) if options.mese else None,
        **{name: truth[name] for name in names},
    )


def _anatomy_and_fields(options, subject, b0_direction, tell) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Property maps and both fields in Hz on the fine grid; labels and brain mask on the scanner's."""
    tell("anatomy")
    bodies = individual_head(options, subject)
    grid = simulation_grid(options, bodies)
    whole, labels = render_head(options, bodies, grid, np.random.default_rng([options.seed, subject, 3]))
    maps = {name: np.ascontiguousarray(image[grid.view]) for name, image in whole.items()}
    chi = whole["chi_para"] - whole["chi_dia"]
    del whole
    factor = options.oversampling
    mask = (block_mean(maps["brain"], factor) >= 0.5) & (block_mean(maps["foreign"], factor) == 0)
    tell("field")
    dipole = DipoleField(grid.shape, Scan(grid.voxel_size_mm, b0_direction))
    hz_per_ppm = np.float32(centre_frequency_mhz(options.field_strength))
    maps["total_field_hz"] = dipole(chi, TISSUES["background"].para)[grid.view] * hz_per_ppm
    brain_chi = np.zeros_like(chi)
    brain_chi[grid.view] = chi[grid.view] * _repeat(mask, factor)
    maps["local_field_hz"] = dipole(brain_chi)[grid.view] * hz_per_ppm
    if factor == 1:
        return maps, np.ascontiguousarray(labels[grid.view]), mask
    coarse = simulation_grid(replace(options, oversampling=1), bodies)
    labels = render(bodies, coarse.shape, coarse.voxel_size_mm, coarse.first_centre_mm, options.field_strength)[1]
    return maps, np.ascontiguousarray(labels[coarse.view]), mask


def _gradient_echoes(maps, echo_times_s, options) -> np.ndarray:
    """Complex spoiled gradient echoes without noise: (n_echo, n0, n1, n2) complex64 on the scanner's grid."""
    start = steady_state(maps["m0"], maps["r1"], options.repetition_time, options.flip_angle)
    if options.anatomy == "icbm152":
        start *= receive_field(start.shape)
    fat_hz = FAT_PPM * centre_frequency_mhz(options.field_strength) if maps["fat"].any() else 0.0
    signal = np.empty((len(echo_times_s), *options.grid_shape()), np.complex64)
    for echo, te in enumerate(echo_times_s):
        phase = np.float32(2 * np.pi * te) * maps["total_field_hz"] + maps["phase_offset"]
        if fat_hz:  # the tissue that is mostly fat turns as fat does
            phase += np.float32(2 * np.pi * te * fat_hz) * (maps["fat"] >= 0.5)
        if options.bipolar:
            phase += (-1) ** echo * bipolar_plane(len(phase))
        amplitude = start * np.exp(np.float32(-te) * maps["r2star"])
        image = np.empty(phase.shape, np.complex64)
        np.multiply(amplitude, np.cos(phase), out=image.real)
        np.multiply(amplitude, np.sin(phase), out=image.imag)
        signal[echo] = sampled(image, options)
    return signal


def sampled(image: np.ndarray, options: SimulationOptions) -> np.ndarray:
    """The complex image on the scanner's grid: the centre of k-space, or the mean over each voxel for icbm152."""
    if options.oversampling == 1:
        return image
    return (block_mean if options.anatomy == "icbm152" else crop_k_space)(image, options.oversampling)


def _spin_echoes(maps, transmit, random, options) -> np.ndarray:
    """Magnitude of the spin echoes, stimulated ones included, with the same peak SNR: (n_echo, n0, n1, n2)."""
    echoes = spin_echo_trains(
        maps, transmit, repetition_time_s=MESE_REPETITION_TIME_S, echo_spacing_s=MESE_ECHO_TIMES_S[0],
        n_echoes=len(MESE_ECHO_TIMES_S),
    )  # fmt: skip
    magnitude = np.empty((len(MESE_ECHO_TIMES_S), *options.grid_shape()), np.float32)
    deviation = 0.0
    for echo, image in enumerate(echoes):
        image = image.astype(np.complex64)
        image = sampled(image, options)
        if echo == 0 and options.peak_snr:
            deviation = float(np.abs(image).max()) / options.peak_snr
        add_noise(image, deviation, random)
        magnitude[echo] = np.abs(image)
    return magnitude


def _repeat(mask: np.ndarray, factor: int) -> np.ndarray:
    """The mask on a grid finer by `factor`."""
    return mask if factor == 1 else mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)

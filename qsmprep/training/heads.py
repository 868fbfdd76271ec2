"""One head that networks learn from: truth, fields as the pipeline would see them, and the scan's noise."""

from __future__ import annotations

from typing import Any

import numpy as np

from qsmprep import registry
from qsmprep.background.vsharp_channel import vsharp_channel
from qsmprep.nets.channels.tkd import tkd_channel
from qsmprep.numerics.units import centre_frequency_mhz
from qsmprep.numerics.volume import bounding_box
from qsmprep.phantom.forward import DipoleField
from qsmprep.phantom.grid import simulation_grid
from qsmprep.phantom.options import ANATOMIES, SimulationOptions
from qsmprep.phantom.person_head import person_and_fields
from qsmprep.phantom.rendering import render_head
from qsmprep.phantom.scanner import shim, steady_state
from qsmprep.phantom.tissues import RELAXOMETRIC_CONSTANT_3T, TISSUES
from qsmprep.scan import Scan, Triple
from qsmprep.training.anatomy import random_bodies, random_options, random_strengths
from qsmprep.training.deformation import deformed
from qsmprep.training.fibres import fibre_tensor, off_diagonal_field

# Part of the name of the folder that keeps heads: raise it whenever a head of the same number comes out otherwise.
HEADS_VERSION = 4
VOXEL_SIZE_MM = (1.0, 1.0, 1.0)
ALONG_THIRD_AXIS = (0.0, 0.0, 1.0)
LARGEST_TILT_DEGREES = 40.0
BORDER = 8  # voxels kept around the brain
DEFORMATION = 2.0  # voxels, s.d. of a control point
FIBRE_STRENGTH_PPM = (0.005, 0.02)
# Background field removals of which one is drawn for each head, V-SHARP as often as the others together.
REMOVALS = ("v-sharp", "iharperella", "v-sharp", "pdf", "v-sharp", "lbv")
# What a head holds, by file name; all (n0, n1, n2) in ppm but the mask.
VOLUMES = (
    "mask", "chi", "chi-para", "chi-dia", "off-diagonal-field", "tissue-field", "total-field", "tissue-field-v-sharp",
    "background-v-sharp", "tkd", "tkd-v-sharp", "tkd-background", "noise", "tkd-noise", "r2star", "r2prime",
    "tissue-field-removal", "background-removal", "tkd-removal", "tkd-background-removal",
)  # fmt: skip
# The same beyond the brain, wherever there is signal, for networks that are given no mask; made only where asked for.
SURROUNDINGS = {"total-field": "total-field-head", "tissue-field": "tissue-field-head", "noise": "noise-head"}
SMALLEST_SIGNAL = 0.05  # of the brightest voxel's first echo


def generator_of(number: int, anatomy: str) -> str:
    """Which generator makes a head; of all, each makes every other pair of heads."""
    return ANATOMIES[number // 2 % len(ANATOMIES)] if anatomy == "all" else anatomy


def training_head(
    number: int, seed: int, *, anatomy: str, textured: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Simulate one head; the same arguments give the same head.

    Every third head is tilted (B0 off the third axis), and every other head's white matter is anisotropic.

    Parameters
    ----------
    number, seed : which head.
    anatomy : its generator, one of ANATOMIES.
    textured : whether susceptibility may vary within tissues.

    Returns
    -------
    volumes : by the names of VOLUMES, cropped to the brain; fields inside the mask only. `tissue-field` is that of the
        brain's own susceptibility, `tissue-field-v-sharp` what V-SHARP leaves of it, `background-v-sharp` what it
        leaves of the rest of the total field, and those of `removal` are the same of a method drawn from REMOVALS;
        `tkd...` are truncated divisions of these. `noise` is the noise of a field map whose scan has a peak
        signal-to-noise ratio of 1. Rates are over 114/s/ppm.
    facts : B0 direction, generator, drawn method, whether anisotropic.
    """
    volumes, b0, random = _rendered(number, seed, anatomy, textured=textured)
    removal = REMOVALS[int(random.integers(len(REMOVALS)))]
    _add_derived(volumes, Scan(VOXEL_SIZE_MM, b0), removal)
    inside = volumes["mask"]
    volumes = {name: volumes[name] if name == "mask" else volumes[name] * inside for name in VOLUMES}
    facts = {
        "b0_direction": list(b0), "generator": anatomy, "removal": removal,
        "anisotropic": float(bool(volumes["off-diagonal-field"].any())),
    }  # fmt: skip
    return volumes, facts


def surroundings(number: int, seed: int, *, anatomy: str, textured: bool = True) -> dict[str, np.ndarray]:
    """Fields and noise of a `training_head` beyond the brain too, 0 only where there is no signal.

    Returns
    -------
    By the values of SURROUNDINGS: (n0, n1, n2) in ppm, in the box of the head's other volumes.
    """
    volumes, _, _ = _rendered(number, seed, anatomy, textured=textured)
    return {beyond: volumes[name] * volumes["signal"] for name, beyond in SURROUNDINGS.items()}


def _rendered(
    number: int, seed: int, anatomy: str, *, textured: bool
) -> tuple[dict[str, np.ndarray], Triple, np.random.Generator]:
    """Maps, fields and noise of a head in the box of its brain, not masked; direction of B0; what draws the rest."""
    random = np.random.default_rng([seed, number])
    options = random_options(anatomy, random, textured=textured)
    b0 = _direction(number, random)
    made = _ellipsoids if anatomy == "ellipsoids" else _person
    maps, mask, background = made(options, b0, random)
    chi = maps["chi_para"] - maps["chi_dia"]
    extra = np.zeros_like(chi)
    if number % 2 == 1 and b0 == ALONG_THIRD_AXIS:
        strength = float(random.uniform(*FIBRE_STRENGTH_PPM))
        chi33, chi13, chi23 = fibre_tensor(np.clip(maps["white"] * maps["brain"], 0, 1), strength, random)
        chi = chi + chi33
        extra = off_diagonal_field(chi13, chi23)
    tissue = DipoleField(chi.shape, Scan(VOXEL_SIZE_MM, b0))(chi * mask) + extra
    box = bounding_box(mask, BORDER)
    volumes = {
        "mask": mask, "chi": chi * mask, "chi-para": maps["chi_para"], "chi-dia": maps["chi_dia"],
        "off-diagonal-field": extra, "tissue-field": tissue, "total-field": shim(tissue + background, mask),
        "noise": _unit_noise(maps, options, random), "r2prime": maps["r2prime"] / np.float32(RELAXOMETRIC_CONSTANT_3T),
        "signal": _has_signal(maps, options),
        "r2star": (maps["r2"] + maps["r2prime"]) / np.float32(RELAXOMETRIC_CONSTANT_3T),
    }  # fmt: skip
    return {name: np.ascontiguousarray(image[box]) for name, image in volumes.items()}, b0, random


def reconstructed_chi(volumes: dict[str, np.ndarray], method: str, snr: float, b0: Triple) -> np.ndarray:
    """Susceptibility that an inversion makes of the head's noisy tissue field, with the truth's mean: (n0, n1, n2)."""
    mask = volumes["mask"] > 0
    field = volumes["tissue-field"].astype(np.float32) + volumes["noise"].astype(np.float32) / snr
    chosen = registry.find("inversion", method)
    options_type = chosen.options_type()
    options = options_type() if options_type is not None else None
    scan = Scan(VOXEL_SIZE_MM, b0, tuple(SimulationOptions().echo_times_s()), centre_frequency_mhz(3.0))
    found = chosen.run(
        options, field_ppm=field * mask, mask=mask, scan=scan, voxel_size_mm=scan.voxel_size_mm,
        b0_direction=scan.b0_direction, centre_frequency_mhz=scan.frequency_mhz, echo_times_s=scan.known_echo_times_s,
    )  # fmt: skip
    shift = volumes["chi"][mask].mean(dtype=np.float64) - found.chi_ppm[mask].mean(dtype=np.float64)
    return ((found.chi_ppm + np.float32(shift)) * mask).astype(np.float32)


def _direction(number: int, random: np.random.Generator) -> tuple[float, float, float]:
    """Direction of B0: the third axis, but for every third head."""
    if number % 3 != 2:
        return ALONG_THIRD_AXIS
    tilt, turn = np.deg2rad(random.uniform(5, LARGEST_TILT_DEGREES)), random.uniform(0, 2 * np.pi)
    return (float(np.sin(tilt) * np.cos(turn)), float(np.sin(tilt) * np.sin(turn)), float(np.cos(tilt)))


def _ellipsoids(options: SimulationOptions, b0: Triple, random: np.random.Generator):
    """Property maps and `white`, the share of white matter, elastically deformed; brain mask; background field, ppm."""
    bodies = random_bodies(options, random)
    grid = simulation_grid(options, bodies)
    maps, labels = render_head(options, bodies, grid, random)
    maps["white"] = (labels == TISSUES["white_matter"].label).astype(np.float32)
    maps = deformed(maps, DEFORMATION, random)
    mask = (maps["brain"] >= 0.5) & (maps["foreign"] == 0)
    chi = maps["chi_para"] - maps["chi_dia"]
    dipole = DipoleField(chi.shape, Scan(VOXEL_SIZE_MM, b0))
    return maps, mask, dipole(chi, TISSUES["background"].para) - dipole(chi * mask)


def _person(options: SimulationOptions, b0: Triple, random: np.random.Generator):
    """The same of a head drawn from the template, whose own deformation is enough."""
    maps, labels, mask = person_and_fields(options, 0, b0, lambda text: None, random_strengths(random))
    maps["white"] = (labels == TISSUES["white_matter"].label).astype(np.float32)
    background = maps["total_field_hz"] - maps["local_field_hz"]
    return maps, mask, background / np.float32(centre_frequency_mhz(options.field_strength))


def _unit_noise(maps: dict[str, np.ndarray], options: SimulationOptions, random: np.random.Generator) -> np.ndarray:
    """Noise in ppm of a field map fitted to all echoes, for noise as strong as the brightest voxel's first echo."""
    start, rate = _start_and_rate(maps, options)
    times = options.echo_times_s()
    brightest = float((start * np.exp(-np.float32(times[0]) * rate)).max())
    information = sum((np.float32(t) * start * np.exp(-np.float32(t) * rate)) ** 2 for t in times)
    hz = brightest / (2 * np.pi * np.sqrt(np.maximum(information, (1e-3 * brightest * times[0]) ** 2)))
    ppm = hz / centre_frequency_mhz(options.field_strength)
    return (ppm * random.standard_normal(ppm.shape, np.float32)).astype(np.float32)


def _has_signal(maps: dict[str, np.ndarray], options: SimulationOptions) -> np.ndarray:
    """Where the first echo is bright enough for its phase to be known."""
    start, rate = _start_and_rate(maps, options)
    signal = start * np.exp(-np.float32(options.echo_times_s()[0]) * rate)
    return np.asarray(signal > SMALLEST_SIGNAL * signal.max())


def _start_and_rate(maps: dict[str, np.ndarray], options: SimulationOptions) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude at echo time 0, and R2*."""
    start = steady_state(maps["m0"], np.maximum(maps["r1"], 1e-3), options.repetition_time, options.flip_angle)
    return start, maps["r2"] + maps["r2prime"]


def _add_derived(volumes: dict[str, np.ndarray], scan: Scan, removal: str) -> None:
    """What is computed of the fields: two background field removals, and closed-form inversions of all and of noise."""
    mask = volumes["mask"]
    tissue, background = volumes["tissue-field"] * mask, (volumes["total-field"] - volumes["tissue-field"]) * mask
    volumes["tissue-field-v-sharp"], valid = vsharp_channel(tissue, mask, scan)
    volumes["background-v-sharp"], _ = vsharp_channel(background, mask, scan)
    volumes["tissue-field-removal"], kept = _removed(removal, tissue, mask, scan)
    volumes["background-removal"], _ = _removed(removal, background, mask, scan)
    for name, field, inside in (
        ("tkd", tissue, mask), ("tkd-noise", volumes["noise"] * mask, mask),
        ("tkd-v-sharp", volumes["tissue-field-v-sharp"], valid),
        ("tkd-background", volumes["background-v-sharp"], valid),
        ("tkd-removal", volumes["tissue-field-removal"], kept),
        ("tkd-background-removal", volumes["background-removal"], kept),
    ):  # fmt: skip
        volumes[name] = tkd_channel(field, inside, scan=scan)


def _removed(name: str, field_ppm: np.ndarray, mask: np.ndarray, scan: Scan) -> tuple[np.ndarray, np.ndarray]:
    """What a background field removal leaves of a field, and where; taken to be linear, as it nearly is."""
    method = registry.find("background", name)
    options_type = method.options_type()
    found = method.run(
        options_type() if options_type else None, total_field=np.where(mask, field_ppm, 0), mask=mask, scan=scan
    )
    return (found.tissue_field * found.mask).astype(np.float32), found.mask

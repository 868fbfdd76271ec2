"""A head of this repository's template scanned by the forward model of `qsm-forward`, which nobody here wrote.

Its field (a continuous kernel on a grid padded to the double), shim, phase offset, signal, cropping of k-space and
noise make the scan. The anatomy and what is true about it are those of `qsmprep.phantom`.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from qsmprep.phantom.anatomy import rotation
from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.person import draw_person
from qsmprep.phantom.person_head import CENTRE_MM
from qsmprep.phantom.person_rendering import render_person

ORDER_OF_SHIM = 2


def forward_model() -> ModuleType:
    """The package; SystemExit with what to do where it is missing."""
    try:
        import qsm_forward
    except ImportError as error:
        raise SystemExit(
            f"The heads of qsm-forward need a package that is not installed ({error}): pip install qsm-forward. "
            "Or leave these heads out with --heads."
        ) from None
    return qsm_forward


def head_of_qsm_forward(options: SimulationOptions) -> SimulatedHead:
    """Simulate one acquisition.

    Parameters
    ----------
    options : the acquisition, of an anatomy from the template.

    Returns
    -------
    The head with the scan, the fields and the phase offset of the forward model; noise is relative to the brain.
    """
    model = forward_model()
    truth = simulate_head(replace(options, peak_snr=0.0))
    maps = fine_maps(options)
    brain = (maps["brain"] >= 0.5) & (maps["foreign"] == 0)
    chi = (maps.pop("chi_para") - maps.pop("chi_dia")).astype(float)
    size = np.array(options.voxel_size_mm()) / options.oversampling
    grid = {"voxel_size": size, "B0_dir": np.array(truth.b0_direction)}
    # A voxel at the border of the brain holds some bone, which is no part of the tissue field.
    inside = brain * finer_mask(truth.brain_mask, options.oversampling)
    local = model.generate_field(chi * inside, brain, **grid)
    hz_per_ppm = truth.centre_frequency_mhz
    local_hz = hz_per_ppm * coarser(model, local, options)
    field = model.generate_field(chi, brain, **grid)
    del chi, local, inside
    field = model.generate_shimmed_field(field, brain, order=ORDER_OF_SHIM)[1]
    offset = model.generate_phase_offset(maps["m0"].astype(float), brain, maps["m0"].shape)
    signal, deviation = noisy_echoes(model, maps, field, offset, truth, options)
    return replace(
        truth,
        magnitude=np.abs(signal),
        phase=np.angle(signal),
        noise_deviation=deviation,
        total_field_hz=(hz_per_ppm * coarser(model, field, options)).astype(np.float32),
        local_field_hz=(local_hz * truth.brain_mask).astype(np.float32),
        phase_offset=coarser(model, offset, options).astype(np.float32),
    )


def fine_maps(options: SimulationOptions) -> dict[str, np.ndarray]:
    """Property maps on the fine grid.

    Cropping k-space keeps the centre of the first voxel where it was, so that the grid starts at the centre of the
    scanner's first voxel and not at its edge.
    """
    size, shape, factor = np.array(options.voxel_size_mm()), np.array(options.grid_shape()), options.oversampling
    turn = rotation(1, options.head_tilt_y) @ rotation(0, options.head_tilt_x)
    person = draw_person(options, 0, turn, np.array(CENTRE_MM))
    n0, n1, n2 = (int(n) for n in shape * factor)
    h0, h1, h2 = (float(h) for h in size / factor)
    x, y, z = (float(c) for c in -size * (shape - 1) / 2)
    maps, _ = render_person(
        person, (n0, n1, n2), (h0, h1, h2), (x, y, z), options.field_strength, options.texture
    )  # fmt: skip
    return maps


def finer_mask(mask: np.ndarray, factor: int) -> np.ndarray:
    """Share of each voxel of the fine grid that lies in the mask's voxels: a half where a border halves it."""
    share = mask.astype(np.float32)
    for axis, n in enumerate(mask.shape):
        edges = np.arange(n * factor) + factor / 2 + np.array([[-0.5], [0.5]])  # of the fine voxels
        low, high = np.floor(edges[0] / factor), np.ceil(edges[1] / factor) - 1
        low, high = (np.clip(place, 0, n - 1).astype(int) for place in (low, high))
        share = (share.take(low, axis) + share.take(high, axis)) / 2
    return share


def noisy_echoes(model, maps, field, offset, truth, options) -> tuple[np.ndarray, float]:
    """Complex echoes on the scanner's grid, and the standard deviation of the first one's noise."""
    echoes, deviation = [], 0.0
    random = np.random.default_rng(options.seed)
    r2star = (maps["r2"] + maps["r2prime"]).astype(float)
    for te in truth.echo_times_s:
        signal = model.generate_signal(
            field, B0=options.field_strength, TR=options.repetition_time, TE=te, flip_angle=options.flip_angle,
            phase_offset=offset, R1=maps["r1"].astype(float), R2star=r2star, M0=maps["m0"].astype(float),
        )  # fmt: skip
        signal = model.crop_kspace(signal, options.grid_shape())
        if options.peak_snr:  # the model's is of the brightest voxel, which is fat
            brightest = float(np.abs(signal).max())
            brain = float(np.abs(signal[truth.brain_mask]).max())
            deviation = deviation or brain / options.peak_snr
            signal = model.add_noise(signal, options.peak_snr * brightest / brain, random)
        echoes.append(signal.astype(np.complex64))
    return np.stack(echoes), deviation


def coarser(model, image: np.ndarray, options: SimulationOptions) -> np.ndarray:
    """A real image on the scanner's grid, as the model's scanner would see it."""
    return model.crop_kspace(image, options.grid_shape(), gibbs_correction=False)

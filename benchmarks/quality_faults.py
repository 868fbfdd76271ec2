"""Faults planted in a simulated dataset, in the command, or in the middle of a run: one a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion

AIR, TRUTH = 14, Path("derivatives", "truth", "sub-01", "anat")
Plant = Callable[[Path, np.random.Generator], list[str] | None]


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    Attributes
    ----------
    name, variant : what it is, and in which form.
    numbers : quality numbers that shall tell it; the first is its own.
    plant : changes the dataset in place and may return words for the command line.
    words : for the command line.
    middle : changes the unwrapped phase (n0, n1, n2, n_echo) in the middle of the run.
    simulation : options of the head that belong to the fault.
    """

    name: str
    variant: str
    numbers: tuple[str, ...]
    plant: Plant | None = None
    words: tuple[str, ...] = ()
    middle: Callable[[np.ndarray, np.ndarray, np.ndarray], None] | None = None
    simulation: dict = field(default_factory=dict)


def echo_times_wrong(change: Callable[[list[float]], list[float]]) -> Plant:
    """Echo times in the sidecars that are not those of the scan."""

    def plant(bids: Path, random: np.random.Generator) -> None:
        sidecars = sorted((bids / "sub-01" / "anat").glob("*MEGRE.json"))
        times = sorted({json.loads(path.read_text("utf-8"))["EchoTime"] for path in sidecars})
        wrong = dict(zip(times, change(list(times)), strict=True))
        for path in sidecars:
            document = json.loads(path.read_text("utf-8"))
            path.write_text(json.dumps(document | {"EchoTime": round(wrong[document["EchoTime"]], 6)}), "utf-8")

    return plant


def inverted_phase(bids: Path, random: np.random.Generator) -> None:
    """Phase stored with the other sign."""
    for path in sorted((bids / "sub-01" / "anat").glob("*part-phase_MEGRE.nii.gz")):
        change_image(path, np.negative)


def mask_words(make: Callable[[np.ndarray, np.ndarray, float], np.ndarray]) -> Plant:
    """A brain mask given to the program: made of the true one, the tissue labels and the voxel size in mm."""

    def plant(bids: Path, random: np.random.Generator) -> list[str]:
        image = nib.load(bids / TRUTH / "sub-01_desc-brain_mask.nii.gz")
        labels = np.asarray(nib.load(bids / TRUTH / "sub-01_desc-tissue_dseg.nii.gz").dataobj)
        mask = make(np.asarray(image.dataobj) > 0, labels, float(image.header.get_zooms()[0]))
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), bids.parent / "mask.nii.gz")
        return ["--mask-file", str(bids.parent / "mask.nii.gz")]

    return plant


def leaking(reach_mm: float) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """The true mask and the air cavities that lie within a reach of it, with what is between."""

    def make(brain: np.ndarray, labels: np.ndarray, h: float) -> np.ndarray:
        near = binary_dilation(brain, iterations=round(reach_mm / h))
        air = binary_dilation((labels == AIR) & near, iterations=round(4 / h))
        return brain | air & near

    return make


def shrunk(depth_mm: float) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """The true mask without its outer layers."""
    return lambda brain, labels, h: binary_erosion(brain, iterations=round(depth_mm / h))


def without_bottom(share: float) -> Callable[[np.ndarray, np.ndarray, float], np.ndarray]:
    """The true mask cut off below, as where a slab of the brain was taken for neck."""

    def make(brain: np.ndarray, labels: np.ndarray, h: float) -> np.ndarray:
        cut = brain.copy()
        layers = np.flatnonzero(brain.any(axis=(0, 1)))
        cut[:, :, : layers[0] + round(share * len(layers))] = False
        return cut

    return make


def moved(shift_mm: float, phase_rad: float, period: int) -> Plant:
    """Lines of k-space along the second axis taken while the head moved, and while its field breathed.

    Each line has its own translation (a random walk of s.d. `shift_mm`) and phase (of s.d. `phase_rad`, and periodic
    where `period` lines are given), the same for all echoes of a line.
    """

    def plant(bids: Path, random: np.random.Generator) -> None:
        folder = bids / "sub-01" / "anat"
        motion = None
        for path in sorted(folder.glob("*part-mag_MEGRE.nii.gz")):
            other = path.with_name(path.name.replace("part-mag", "part-phase"))
            magnitude, phase = nib.load(path), nib.load(other)
            signal = np.asarray(magnitude.dataobj) * np.exp(1j * np.asarray(phase.dataobj))
            lines, h = signal.shape[1], float(magnitude.header.get_zooms()[1])
            if motion is None:
                walk = np.cumsum(random.standard_normal((lines, 2)), axis=0)
                walk = shift_mm * (walk - walk.mean(0)) / walk.std(0)
                turn = phase_rad * random.standard_normal(lines)
                turn += phase_rad * np.sin(2 * np.pi * np.arange(lines) / period) if period else 0
                motion = walk, turn
            walk, turn = motion
            kx = np.fft.fftfreq(signal.shape[0], float(magnitude.header.get_zooms()[0]))[:, None]
            ky = np.fft.fftfreq(lines, h)[None]
            order = np.fft.ifftshift(np.arange(lines))  # the time at which each frequency was taken
            factor = np.exp(-2j * np.pi * (kx * walk[order, 0] + ky * walk[order, 1]) + 1j * turn[order])
            signal = np.fft.ifft2(np.fft.fft2(signal, axes=(0, 1)) * factor[..., None], axes=(0, 1))
            save_like(path, magnitude, np.abs(signal))
            save_like(other, phase, np.angle(signal))

    return plant


def coils_added(turns: float) -> Plant:
    """Phase of two coils' images added without regard to their phase offsets; the magnitude is not touched."""

    def plant(bids: Path, random: np.random.Generator) -> None:
        for path in sorted((bids / "sub-01" / "anat").glob("*part-phase_MEGRE.nii.gz")):
            image = nib.load(path)
            x, y, z = (np.linspace(-1, 1, n).reshape([-1 if a == d else 1 for a in range(3)])
                       for d, n in enumerate(image.shape))  # fmt: skip
            first = (1.1 + x) * np.exp(1j * np.pi * turns * y)
            second = (1.1 - x) * np.exp(-1j * np.pi * turns * (0.8 * y + 0.6 * z))
            turned = np.asarray(image.dataobj) + np.angle(first + second)
            save_like(path, image, np.angle(np.exp(1j * turned)))

    return plant


def step_of_two_pi(inside: Callable[[np.ndarray], np.ndarray]) -> Callable:
    """A region whose first echo is a turn off, and with it all others, as unwrapping in time makes them."""

    def middle(unwrapped: np.ndarray, places: np.ndarray, echo_times: np.ndarray) -> None:
        region = inside(places) & (unwrapped[..., 0] != 0)
        for echo, te in enumerate(echo_times):
            unwrapped[..., echo][region] += np.float32(2 * np.pi) * round(te / echo_times[0])

    return middle


def change_image(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    image = nib.load(path)
    save_like(path, image, change(np.asarray(image.dataobj)))


def save_like(path: Path, image: nib.Nifti1Image, values: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(np.asarray(values, np.float32), image.affine), path)


FAULTS = (
    Fault("wrong echo times", "all recorded 3 ms too long", ("echo_time_offset",),
          echo_times_wrong(lambda times: [te + 0.003 for te in times])),
    Fault("wrong echo times", "the third recorded 3 ms too long", ("phase_nonlinearity", "phase_linearity"),
          echo_times_wrong(lambda times: [te + 0.003 * (i == 2) for i, te in enumerate(times)])),
    Fault("sign flip", "phase stored with the other sign", ("iron_contrast",), inverted_phase),
    Fault("sign flip", "inverted by an option", ("iron_contrast",), words=("--phase-sign", "invert")),
    Fault("bipolar uncorrected", "axial", ("bipolar_phase",), words=("--bipolar", "off"), simulation={"bipolar": True}),
    Fault("bipolar uncorrected", "tilted, SNR 50", ("bipolar_phase",), words=("--bipolar", "off"),
          simulation={"bipolar": True, "tilt_x": 20.0, "peak_snr": 50.0}),
    Fault("mask leaking into the sinus", "cavities within 22 mm", ("air_in_mask",), mask_words(leaking(22))),
    Fault("mask leaking into the sinus", "cavities within 16 mm", ("air_in_mask",), mask_words(leaking(16))),
    Fault("mask too small", "10 mm taken off", ("brain_outside_mask", "mask_volume"), mask_words(shrunk(10))),
    Fault("mask too small", "lowest quarter missing", ("brain_outside_mask", "mask_volume"),
          mask_words(without_bottom(0.3))),
    Fault("unwrapping error", "back of the head a turn off", ("residual_wraps",),
          middle=step_of_two_pi(lambda p: p[1] < -45)),
    Fault("unwrapping error", "ball of 10 mm radius a turn off", ("residual_wraps",),
          middle=step_of_two_pi(lambda p: (p[0] - 25) ** 2 + p[1] ** 2 + (p[2] - 30) ** 2 < 100)),
    Fault("motion-like noise", "1.5 mm random walk, 0.3 rad", ("ghost_level", "peak_snr", "phase_linearity"),
          moved(1.5, 0.3, 0)),
    Fault("motion-like noise", "field that breathes, 0.6 rad", ("ghost_level", "peak_snr", "phase_linearity"),
          moved(0.3, 0.6, 9)),
    Fault("open-ended fringes", "two coils, 1 turn", ("open_fringes_input", "open_fringes"), coils_added(1.0)),
    Fault("open-ended fringes", "two coils, 2 turns", ("open_fringes_input", "open_fringes"), coils_added(2.0)),
    Fault("strong streaking", "TKD, threshold 0.03", ("streaking",),
          words=("--inversion", "tkd", "--tkd-threshold", "0.03")),
    Fault("strong streaking", "Tikhonov, regularisation 3e-4, SNR 50", ("streaking",),
          words=("--inversion", "tikhonov", "--tikhonov-regularisation", "3e-4"), simulation={"peak_snr": 50.0}),
    Fault("wrong B0 direction", "tilt of 30 degrees lost", ("b0_direction_error",), words=("--b0-direction", "0,0,1"),
          simulation={"tilt_x": 30.0}),
    Fault("wrong B0 direction", "axes exchanged", ("b0_direction_error",), words=("--b0-direction", "0,1,0")),
)  # fmt: skip

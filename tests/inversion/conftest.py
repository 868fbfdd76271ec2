"""A small head with nuclei in a uniform brain, its field from an image-space dipole, padded twice."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import fast_shape, irfftn, rfftn
from qsmprep.scan import Scan

NUCLEI = (  # susceptibility in ppm, semi-axes and centre in mm
    (-0.03, (13, 16, 13), (0, 0, 0)),
    (0.13, (2.5, 5, 3.5), (7, 1, 0)),
    (0.13, (2.5, 5, 3.5), (-7, 1, 0)),
    (0.05, (3, 4, 3), (4, -8, 5)),
    (0.05, (3, 4, 3), (-4, -8, 5)),
    (0.18, (2, 2, 2), (0, 8, -6)),
)
BRAIN = (17, 21, 17)
PHASE = {"centre_frequency_mhz": 127.7, "echo_times_s": (0.005, 0.011, 0.017)}


@dataclass(frozen=True)
class Head:
    """Truth and field in ppm, magnitude, and labels of the nuclei (their cores only)."""

    chi: np.ndarray
    field: np.ndarray
    magnitude: np.ndarray
    mask: np.ndarray
    labels: np.ndarray
    voxel_size_mm: tuple
    b0_direction: tuple

    @property
    def scan(self):
        return Scan(self.voxel_size_mm, self.b0_direction, **PHASE)

    def turned_scan(self, order):
        """The scan with its axes in another order."""
        voxel_size_mm, b0_direction = (tuple(v[a] for a in order) for v in (self.voxel_size_mm, self.b0_direction))
        return replace(self.scan, voxel_size_mm=voxel_size_mm, b0_direction=b0_direction)

    def error(self, chi, mask=None):
        """Demeaned root mean square error over the mask relative to the truth's, in percent."""
        inside = self.mask if mask is None else mask
        x, truth = chi[inside] - chi[inside].mean(), self.chi[inside] - self.chi[inside].mean()
        return 100 * np.linalg.norm(x - truth) / np.linalg.norm(truth)

    def region_means(self, chi, mask=None):
        inside = self.mask if mask is None else mask
        return np.array([chi[self.labels == n].mean() for n in range(2, len(NUCLEI) + 1)]) - chi[inside].mean()

    def slope(self, chi, mask=None):
        return np.polyfit(self.region_means(self.chi, mask), self.region_means(chi, mask), 1)[0]


def dipole_field(chi, voxel_size_mm, b0_direction):
    padded = fast_shape(tuple(2 * n for n in chi.shape))
    kernel = dipole_kernel(padded, voxel_size_mm, b0_direction, kind="greens")
    spectrum = rfftn(np.pad(chi, [(0, p - n) for p, n in zip(padded, chi.shape, strict=True)]))
    return irfftn(spectrum * kernel, padded)[tuple(slice(0, n) for n in chi.shape)]


def make_head(shape=(44, 51, 45), voxel_size_mm=(1.0, 1.0, 1.0), b0_direction=(0, 0, 1), rotation=None, noise=5e-4):
    """`rotation` turns the head; turn b0_direction with it to lay the patient differently into the same magnet."""
    rotation = np.eye(3) if rotation is None else rotation
    fine = np.linspace(-1 / 3, 1 / 3, 3)
    total, brain = np.zeros(shape), np.zeros(shape)
    labels = np.zeros(shape, np.uint8)
    for offset in np.stack(np.meshgrid(fine, fine, fine), -1).reshape(-1, 3):
        axes = [(np.arange(n) - n // 2 + o) * h for n, h, o in zip(shape, voxel_size_mm, offset, strict=True)]
        r = np.stack(np.meshgrid(*axes, indexing="ij"), -1) @ rotation
        inside = ((r / BRAIN) ** 2).sum(-1) < 1
        chi = np.where(inside, 0.02, 0.0)
        for number, (value, size, centre) in enumerate(NUCLEI, start=1):
            squared = (((r - centre) / size) ** 2).sum(-1)
            chi[squared < 1] = value
            if not offset.any():
                labels[squared < 0.6] = number
        total += chi / 27
        brain += inside / 27
    mask = brain > 0.5
    chi = (total * mask).astype(np.float32)
    random = np.random.default_rng(0)
    field = dipole_field(chi, voxel_size_mm, b0_direction) + noise * random.standard_normal(shape)
    magnitude = (1 - 2 * chi + 0.01 * random.standard_normal(shape)) * mask
    return Head(chi, (field * mask).astype(np.float32), np.maximum(magnitude, 0).astype(np.float32), mask, labels,
                tuple(voxel_size_mm), tuple(b0_direction))  # fmt: skip


@pytest.fixture(scope="session")
def head():
    return make_head()


@pytest.fixture(scope="session")
def head_factory():
    return make_head

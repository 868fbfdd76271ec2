"""A spherical head with air outside and iron inside, whose two fields are known apart."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn
from qsmprep.scan import Scan


@dataclass(frozen=True)
class Head:
    mask: np.ndarray
    background: np.ndarray
    tissue: np.ndarray
    voxel_size_mm: tuple[float, float, float]
    b0_direction: tuple[float, float, float]

    @property
    def scan(self):
        return Scan(self.voxel_size_mm, self.b0_direction)


def field_of(chi, voxel_size_mm, b0_direction):
    """Field of susceptibility, free of wrap-around."""
    padded = np.zeros(tuple(2 * n for n in chi.shape), np.float32)
    part = tuple(slice(n) for n in chi.shape)
    padded[part] = chi
    kernel = dipole_kernel(padded.shape, voxel_size_mm, b0_direction, kind="integrated")
    return np.ascontiguousarray(irfftn(rfftn(padded) * kernel, padded.shape)[part])


@cache
def _make_head(radius=38.0, voxel_size_mm=(1.0, 1.0, 1.0), b0_direction=(0.0, 0.0, 1.0)):
    """Sphere of tissue in mm; air bodies (9.4 ppm) at least 6 mm outside it, four nuclei well inside."""
    half = radius + 22
    shape = tuple(int(np.ceil(2 * half / h)) for h in voxel_size_mm)
    x, y, z = np.meshgrid(
        *((np.arange(n) - n // 2) * h for n, h in zip(shape, voxel_size_mm, strict=True)), indexing="ij", sparse=True
    )

    def ball(centre, size):
        distance = np.sqrt(sum((u - c) ** 2 for u, c in zip((x, y, z), centre, strict=True)))
        return np.clip((size - distance) / min(voxel_size_mm) + 0.5, 0, 1).astype(np.float32)

    air = 9.4 * sum(
        ball(np.array(direction) / np.linalg.norm(direction) * (radius + 6 + size), size)
        for direction, size in (((0, 1, -0.4), 7), ((1, -0.1, -0.6), 5), ((-1, -0.1, -0.6), 5), ((0.2, 0.3, 1), 4))
    )
    nuclei = sum(
        chi * ball(np.array(centre) * radius / 38, size)
        for centre, size, chi in (
            ((8, 4, 2), 4, 0.13),
            ((-8, 4, 2), 4, 0.13),
            ((5, -8, -8), 3, 0.1),
            ((0, -5, 9), 5, -0.05),
        )
    )
    mask = np.broadcast_to(x**2 + y**2 + z**2 <= radius**2, shape).copy()
    return Head(
        mask,
        field_of(air, voxel_size_mm, b0_direction),
        field_of(nuclei, voxel_size_mm, b0_direction),
        voxel_size_mm,
        b0_direction,
    )


def _polynomials(shape, voxel_size_mm):
    """Harmonic polynomials by name, in units of 20 mm."""
    x, y, z = np.meshgrid(
        *((np.arange(n) - n // 2) * h / 20 for n, h in zip(shape, voxel_size_mm, strict=True)), indexing="ij"
    )
    return {
        "1": 1 + 0 * x,
        "x": x,
        "y": y,
        "z": z,
        "xy": x * y,
        "x2-y2": x**2 - y**2,
        "2z2-x2-y2": 2 * z**2 - x**2 - y**2,
        "xyz": x * y * z,
        "x3-3xy2": x**3 - 3 * x * y**2,
    }


@pytest.fixture(scope="session")
def make_head():
    """Function that makes a head of a radius, voxel size and direction of B0 (all of them hashable)."""
    return _make_head


@pytest.fixture(scope="session")
def harmonic_polynomials():
    """Function of shape and voxel size."""
    return _polynomials

"""Random cubes and ellipsoids and their field: what DeepQSM was trained on."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.dipole import dipole_kernel
from qsmprep.numerics.fourier import irfftn, rfftn

MOST_SHAPES = 80
DEVIATION_PPM = 0.05


def random_shapes(edge: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Susceptibility of overlapping shapes, and its field with B0 along the third axis.

    Parameters
    ----------
    edge : of the cube in voxels of 1 mm.
    random : draws the shapes.

    Returns
    -------
    chi, field : (edge, edge, edge) float32 in ppm. The field is that of the shapes alone, the surroundings being 0.

    References
    ----------
    Bollmann 2019 (DeepQSM).
    """
    chi = np.zeros((edge,) * 3, np.float32)
    for _ in range(int(random.integers(10, MOST_SHAPES))):
        half = np.exp(random.uniform(np.log(1.0), np.log(edge / 5), 3))
        centre = random.uniform(0, edge, 3)
        value = np.float32(DEVIATION_PPM * random.standard_normal())
        low = np.maximum(np.floor(centre - half), 0).astype(int)
        high = np.minimum(np.ceil(centre + half) + 1, edge).astype(int)
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        if random.random() < 0.5:
            chi[box] += value
        else:
            axes = np.ogrid[box]
            chi[box] += value * (sum(((x - c) / h) ** 2 for x, c, h in zip(axes, centre, half, strict=True)) < 1)
    wide = np.zeros((2 * edge,) * 3, np.float32)
    wide[:edge, :edge, :edge] = chi
    spectrum = rfftn(wide) * dipole_kernel(wide.shape, (1.0, 1.0, 1.0), kind="continuous")
    return chi, np.ascontiguousarray(irfftn(spectrum, wide.shape)[:edge, :edge, :edge])

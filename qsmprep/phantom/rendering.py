"""Bodies to voxels: property maps mixed by volume fraction, and the label that fills most of each voxel."""

from __future__ import annotations

from itertools import product

import numpy as np

from qsmprep.numerics.jit import jit, prange
from qsmprep.phantom.anatomy import Body
from qsmprep.phantom.grid import SimulationGrid
from qsmprep.phantom.options import SimulationOptions
from qsmprep.phantom.texture import add_texture
from qsmprep.phantom.tissues import PROPERTIES, TISSUES, property_table

SUBSAMPLES = 5


def render_head(
    options: SimulationOptions, bodies: tuple[Body, ...], grid: SimulationGrid, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Property maps and labels of a head on a grid as `render` makes them, with the texture asked for.

    `random` draws the texture; without texture nothing is drawn.
    """
    maps, labels = render(bodies, grid.shape, grid.voxel_size_mm, grid.first_centre_mm, options.field_strength)
    if options.texture:
        add_texture(
            maps, options.texture, voxel_size_mm=grid.voxel_size_mm, first_centre_mm=grid.first_centre_mm,
            field_strength_t=options.field_strength, random=random,
        )  # fmt: skip
    return maps, labels


def render(
    bodies: tuple[Body, ...],
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    first_centre_mm: tuple[float, float, float],
    field_strength_t: float,
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Property maps and label map of bodies on a grid.

    A voxel that a surface may cross (exact bound) is sampled at 5 x 5 x 5 points; every other voxel once.

    Parameters
    ----------
    bodies : later ones cover earlier ones; beyond all of them is air.
    shape, voxel_size_mm : the grid.
    first_centre_mm : centre of voxel (0, 0, 0) in the frame of the bodies.
    field_strength_t : for the relaxation rates.

    Returns
    -------
    Maps by the names of PROPERTIES, float32 of `shape`; labels, uint8.
    """
    names = ("background", *(body.tissue for body in bodies))
    table = property_table(names, field_strength_t)
    strengths = np.array([1.0, *(body.strength for body in bodies)], np.float32)
    for column in ("chi_para", "chi_dia", "r2prime"):
        table[:, PROPERTIES.index(column)] *= strengths
    order = [body.tissue for body in bodies]
    maps = np.empty((len(PROPERTIES), *shape), np.float32)
    labels = np.empty(shape, np.uint8)
    half = np.array(voxel_size_mm) / 2
    corners = [np.array(signs) * half for signs in product((-1, 1), repeat=3)]
    _render(
        np.array([body.centre for body in bodies], float),
        np.array([body.form for body in bodies], float),
        np.array([order.index(body.clip) if body.clip else -1 for body in bodies]),
        np.array([max(np.sqrt(c @ body.form @ c) for c in corners) for body in bodies]),
        table,
        np.array([TISSUES[name].label for name in names], np.uint8),
        np.array(first_centre_mm, float),
        np.array(voxel_size_mm, float),
        SUBSAMPLES,
        maps,
        labels,
    )
    return dict(zip(PROPERTIES, maps, strict=True)), labels


@jit()
def _norm(centres, forms, body, x, y, z):
    """Distance from a body's centre in units of its surface: 1 on the surface."""
    a, b, c = x - centres[body, 0], y - centres[body, 1], z - centres[body, 2]
    f = forms[body]
    square = f[0, 0] * a * a + f[1, 1] * b * b + f[2, 2] * c * c
    square += 2 * (f[0, 1] * a * b + f[0, 2] * a * c + f[1, 2] * b * c)
    return np.sqrt(max(square, 0.0))


@jit()
def _uppermost(centres, forms, clips, top, x, y, z):
    """Row in the table (0 air, else body + 1) of the last body, up to `top`, that holds a point."""
    for body in range(top, -1, -1):
        if _norm(centres, forms, body, x, y, z) <= 1.0:
            clip = clips[body]
            if clip < 0 or _norm(centres, forms, clip, x, y, z) <= 1.0:
                return body + 1
    return 0


@jit()
def _single(centres, forms, clips, reach, x, y, z):
    """(row, -1) of a voxel that one body fills; (-1, first body that may cross it) of any other."""
    for body in range(centres.shape[0] - 1, -1, -1):
        n = _norm(centres, forms, body, x, y, z)
        if n > 1.0 + reach[body]:
            continue
        whole = n <= 1.0 - reach[body]
        clip = clips[body]
        if clip >= 0:
            n = _norm(centres, forms, clip, x, y, z)
            if n > 1.0 + reach[clip]:
                continue
            whole = whole and n <= 1.0 - reach[clip]
        if whole:
            return body + 1, -1
        return -1, body
    return 0, -1


@jit(parallel=True)
# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
def _render(centres, forms, clips, reach, table, label_of, first, size, samples, maps, labels):
    n_rows, n_properties = table.shape
    n0, n1, n2 = labels.shape
    for i in prange(n0):
        counts = np.zeros(n_rows, np.int64)
        by_label = np.zeros(256, np.int64)
        for j in range(n1):
            for k in range(n2):
                x, y, z = first[0] + i * size[0], first[1] + j * size[1], first[2] + k * size[2]
                row, top = _single(centres, forms, clips, reach, x, y, z)
                if row >= 0:
                    for p in range(n_properties):
                        maps[p, i, j, k] = table[row, p]
                    labels[i, j, k] = label_of[row]
                    continue
                counts[:] = 0
                for a in range(samples):
                    xs = x + size[0] * ((a + 0.5) / samples - 0.5)
                    for b in range(samples):
                        ys = y + size[1] * ((b + 0.5) / samples - 0.5)
                        for c in range(samples):
                            zs = z + size[2] * ((c + 0.5) / samples - 0.5)
                            counts[_uppermost(centres, forms, clips, top, xs, ys, zs)] += 1
                by_label[:] = 0
                for p in range(n_properties):
                    total = 0.0
                    for r in range(n_rows):
                        total += counts[r] * table[r, p]
                    maps[p, i, j, k] = total / samples**3
                best = label_of[0]
                for r in range(n_rows):
                    by_label[label_of[r]] += counts[r]
                for r in range(n_rows):
                    if by_label[label_of[r]] > by_label[best]:
                        best = label_of[r]
                labels[i, j, k] = best

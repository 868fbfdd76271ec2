"""A person to voxels: property maps of the whole head, painted from the outside inwards at every point of a grid."""

from __future__ import annotations

import numpy as np

from qsmprep.numerics.arrays import DoubleArray, FloatImage, Labels
from qsmprep.numerics.jit import jit, prange
from qsmprep.phantom.person import TILE_STEP_MM, Person
from qsmprep.phantom.person_layers import (
    BRAIN,
    USED,
    look_up,
    paint,
    paint_bone,
    paint_brain,
    paint_cavities,
    paint_fluid,
    paint_soft_parts,
    skin_depth,
    soft,
)
from qsmprep.phantom.tissues import PROPERTIES, RELAXOMETRIC_CONSTANT_3T, TISSUES, property_table

NAMES = tuple(TISSUES)
ROW = {name: row for row, name in enumerate(NAMES)}
LABELS = np.array([TISSUES[name].label for name in NAMES], np.uint8)
ROWS = np.array([ROW[name] for name in USED])
VEIN = USED.index("vein")
SUSCEPTIBLE = [PROPERTIES.index(name) for name in ("chi_para", "chi_dia", "r2prime")]


def render_person(
    person: Person,
    shape: tuple[int, int, int],
    voxel_size_mm: tuple[float, float, float],
    first_centre_mm: tuple[float, float, float],
    field_strength_t: float,
    texture_ppm: float,
) -> tuple[dict[str, FloatImage], Labels]:
    """Property maps and labels of a person on a grid, each voxel by its centre, borders one voxel soft.

    Parameters
    ----------
    person : the head.
    shape, voxel_size_mm, first_centre_mm : the grid, in the frame in which the head is turned.
    field_strength_t : for the relaxation rates.
    texture_ppm : s.d. of the susceptibility within the brain's tissues.

    Returns
    -------
    Maps by the names of PROPERTIES, float32 of `shape`; labels, uint8.
    """
    table = property_table(NAMES, field_strength_t)
    for name, strength in person.strengths.items():
        table[ROW[name], SUSCEPTIBLE] *= strength
    maps = np.zeros((len(PROPERTIES), *shape), np.float32)
    labels = np.zeros(shape, np.uint8)
    t = person.template
    bodies = [
        _with_rows(rows) for rows in (person.nuclei, person.cavities, person.mastoids, person.eyes, person.lesions)
    ]
    _paint_head(
        np.array(first_centre_mm, float),
        np.array(voxel_size_mm, float),
        person.turn,
        person.offset_mm,
        _parts(person.displacement),
        (_parts(t.grey), _parts(t.white), _parts(t.brain)),
        _parts(t.skull),
        _parts(person.veins),
        (person.tile, TILE_STEP_MM),
        (bodies[0], bodies[1], bodies[2], bodies[3], bodies[4]),
        (table, ROWS, LABELS),
        (float(texture_ppm), RELAXOMETRIC_CONSTANT_3T * field_strength_t / 3),
        maps,
        labels,
    )
    return dict(zip(PROPERTIES, maps, strict=True)), labels


def _parts(lattice) -> tuple[FloatImage, DoubleArray, float]:
    return lattice.volume, lattice.first_mm, lattice.step_mm


def _with_rows(bodies: DoubleArray) -> DoubleArray:
    """The table of bodies with the row of a tissue in place of its label."""
    row_of = {int(label): row for row, label in enumerate(LABELS)}
    found = bodies.copy()
    found[:, 0] = [row_of[int(label)] for label in bodies[:, 0]]
    return found


@jit(parallel=True)
# More than 8 parameters: compiled loops take arrays and numbers one by one, no objects.
def _paint_head(first, size, turn, offset, moved, tissues, skull, veins, tile, bodies, looks, texture, maps, labels):
    table, rows, label_of = looks
    # Numba takes arrays and numbers into a parallel loop, no tuples of tuples: they are put together inside.
    grey, white, brain = tissues
    nuclei, cavities, mastoids, eyes, lesions = bodies
    deviation, decay = texture
    noise, noise_step = tile
    moved_x = (moved[0][..., 0], moved[1], moved[2])
    moved_y = (moved[0][..., 1], moved[1], moved[2])
    moved_z = (moved[0][..., 2], moved[1], moved[2])
    n0, n1, n2 = labels.shape
    width = min(size[0], size[1], size[2])
    for i in prange(n0):
        values = np.empty(table.shape[1], np.float64)
        for j in range(n1):
            for k in range(n2):
                px, py, pz = first[0] + i * size[0], first[1] + j * size[1], first[2] + k * size[2]
                x = turn[0, 0] * px + turn[0, 1] * py + turn[0, 2] * pz + offset[0]
                y = turn[1, 0] * px + turn[1, 1] * py + turn[1, 2] * pz + offset[1]
                z = turn[2, 0] * px + turn[2, 1] * py + turn[2, 2] * pz + offset[2]
                dx, dy = look_up(moved_x, x, y, z, np.float32(0)), look_up(moved_y, x, y, z, np.float32(0))
                z += look_up(moved_z, x, y, z, np.float32(0))
                x, y = x + dx, y + dy
                for p in range(values.size):
                    values[p] = table[0, p]
                label, inner_looks, waves = 0, (table, rows), (noise, noise_step)
                all_bodies = (nuclei, cavities, mastoids, eyes, lesions)
                depth = look_up(skull, x, y, z, np.float32(80))
                out, thick = skin_depth(waves, x, y, z, depth)
                share = soft(-out, width)
                if share > 0.0:
                    label = paint_soft_parts(values, inner_looks, waves, x, y, z, out, width)
                    label = paint_bone(values, inner_looks, x, y, z, depth, thick, share, label, width)
                    if depth > 0.0:
                        label = paint_cavities(values, inner_looks, waves, all_bodies, x, y, z, depth, label, width)
                    label = paint_fluid(values, inner_looks, x, y, z, depth, label, width)
                    label = paint_brain(
                        values,
                        inner_looks,
                        waves,
                        (grey, white, brain),
                        all_bodies,
                        (deviation, decay),
                        x,
                        y,
                        z,
                        label,
                        width,
                    )
                    tube = look_up(veins, x, y, z, np.float32(0))
                    if tube > 0.0 and depth < 0.0:
                        kept = values[BRAIN]
                        paint(values, table, rows[VEIN], tube)
                        values[BRAIN] = kept
                        label = rows[VEIN] if tube >= 0.5 else label
                for p in range(values.size):
                    maps[p, i, j, k] = values[p]
                labels[i, j, k] = label_of[label]

"""Whether a brain mask has the shape of a brain, and where the volume cuts it."""

from __future__ import annotations

import numpy as np

from qsmprep.scan import Triple

# In radii of the sphere of the same volume, from the centre of gravity. Brains of ten heads, whole, as slabs and in
# vivo, reach 0.80 to 1.12 down and 0.85 to 0.97 up; masks that took in neck or scalp 1.20 to 1.34 down, to 1.21 up.
LOWEST_REACH = 1.18
HIGHEST_REACH = 1.08
# Share of a mask that its mirror image covers: 0.94 and more in those brains.
LEAST_SYMMETRY = 0.88
_SAMPLE = 50_000
# Share of a mask's largest section in the volume's outermost slice above which the volume cuts the brain: a brain stem
# that leaves at the bottom has 0.1.
CUT_SHARE = 0.3


def doubts(mask: np.ndarray, voxel_size_mm: Triple, superior: Triple, right: Triple) -> list[str]:
    """What of a mask's shape no brain has, in words; nothing for a plausible one.

    It reaches too far down (neck, face) or up (scalp), or its two sides differ (a leak, a lost lobe).

    Parameters
    ----------
    mask : (n0, n1, n2) bool.
    voxel_size_mm : of the three axes.
    superior, right : unit vectors towards the top and the right of the head, along the voxel axes.

    Examples
    --------
    >>> x, y, z = np.indices((40, 40, 60)) - 20
    >>> ball = x**2 + y**2 + z**2 < 15**2
    >>> doubts(ball, (1, 1, 1), (0, 0, 1), (1, 0, 0))
    []
    >>> doubts(ball | ((x**2 + y**2 < 49) & (z > 0) & (z < 22)), (1, 1, 1), (0, 0, -1), (1, 0, 0))
    ['it reaches 1.3 radii of its sphere down from its centre']
    """
    places = np.argwhere(mask)
    if not len(places):
        return []
    edges = np.array(voxel_size_mm)
    radius = (0.75 / np.pi * len(places) * np.prod(edges)) ** (1 / 3)
    from_centre = (places - places.mean(axis=0)) * edges
    reach = from_centre @ np.array(superior) / radius
    down, up = -float(reach.min()), float(reach.max())
    found = []
    if down > LOWEST_REACH:
        found.append(f"it reaches {down:.1f} radii of its sphere down from its centre")
    if up > HIGHEST_REACH:
        found.append(f"it reaches {up:.1f} radii of its sphere up from its centre")
    symmetry = _symmetry(mask, from_centre[:: max(1, len(places) // _SAMPLE)], places.mean(axis=0), edges, right)
    if symmetry < LEAST_SYMMETRY:
        found.append(f"its mirror image covers only {100 * symmetry:.0f} % of it")
    return found


def cut_ends(mask: np.ndarray) -> list[tuple[int, int]]:
    """Where the volume ends inside the brain, as in a slab: (axis, -1 for its first slice or 1 for its last).

    Examples
    --------
    >>> x, y, z = np.indices((40, 40, 10)) - np.array([20, 20, 5]).reshape(3, 1, 1, 1)
    >>> cut_ends(x**2 + y**2 + z**2 < 15**2)
    [(2, -1), (2, 1)]
    """
    found = []
    for axis in range(3):
        sections = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        ends = ((-1, sections[0]), (1, sections[-1]))
        found += [(axis, end) for end, section in ends if section > CUT_SHARE * sections.max()]
    return found


def _symmetry(mask: np.ndarray, places_mm: np.ndarray, centre: np.ndarray, edges: np.ndarray, right: Triple) -> float:
    """Share of the places, in mm from the centre, whose mirror image lies in the mask."""
    across = np.array(right)
    mirrored = np.rint((places_mm - 2 * np.outer(places_mm @ across, across)) / edges + centre).astype(np.int64)
    last = np.array(mask.shape) - 1
    within = ((mirrored >= 0) & (mirrored <= last)).all(axis=1)
    return float((mask[tuple(np.clip(mirrored, 0, last).T)] & within).mean())

"""The same head with its voxel axes in another order or direction, as other scanners store them."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

from qsmprep.numerics.dipole import b0_direction_from_affine
from qsmprep.phantom.head import SimulatedHead


def reoriented(head: SimulatedHead, axis_codes: str) -> SimulatedHead:
    """The head with voxel axes that run to `axis_codes` (three letters, "LPS"); world coordinates stay."""
    shape = head.brain_mask.shape
    transform = ornt_transform(io_orientation(head.affine), axcodes2ornt(tuple(axis_codes)))

    def turn(image):
        echoes = image.reshape(-1, *shape)
        turned = np.stack([np.ascontiguousarray(apply_orientation(echo, transform)) for echo in echoes])
        return turned if image.ndim == 4 else turned[0]

    changes = {f.name: getattr(head, f.name) for f in fields(head)}
    images = {name: turn(v) for name, v in changes.items() if isinstance(v, np.ndarray) and v.shape[-3:] == shape}
    affine = head.affine @ inv_ornt_aff(transform, shape)
    h0, h1, h2 = (float(h) for h in np.linalg.norm(affine[:3, :3], axis=0))
    return replace(
        head,
        affine=affine,
        voxel_size_mm=(h0, h1, h2),
        b0_direction=b0_direction_from_affine(affine),
        **images,
    )

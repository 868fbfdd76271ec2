"""Masks: the brain, the voxels whose phase can be trusted, and what background removal works on."""

from __future__ import annotations

from qsmprep.rooms import make_room

make_room(
    __name__,
    brain_image="bet",
    robust_mask="robust",
    reliable_mask="consensus",
    background_mask="consensus",
    csf_mask="ventricles",
)

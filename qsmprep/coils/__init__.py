"""Combination of the receive coils: images of every coil to one magnitude and phase an echo."""

from __future__ import annotations

from qsmprep.rooms import make_room

make_room(__name__)

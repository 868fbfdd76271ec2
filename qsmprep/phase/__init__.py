"""Phase preparation: radians, sign, and the offset that does not grow with echo time."""

from __future__ import annotations

from qsmprep.rooms import make_room

make_room(__name__, to_radians="scaling")

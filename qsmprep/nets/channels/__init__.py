"""What networks are shown beside the field; training and use prepare it here alike.

V-SHARP's tissue field is such a channel too, but a step of its own: `qsmprep.background.vsharp_channel`.
"""

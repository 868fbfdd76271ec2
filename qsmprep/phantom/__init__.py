"""The simulated head: truth, scanner, vendor quirks, BIDS writer."""

from qsmprep.phantom.head import SimulatedHead, simulate_head
from qsmprep.phantom.options import SimulationOptions

__all__ = ["SimulatedHead", "SimulationOptions", "simulate_head"]

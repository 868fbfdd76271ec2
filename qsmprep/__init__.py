"""qsmprep: quantitative susceptibility mapping of BIDS datasets, step by step as the consensus paper asks."""

__version__ = "0.1.0"

"""DICOM of the scanners: what a folder of it holds, and under which BIDS names it is to be read."""

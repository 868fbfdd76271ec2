"""DICOM: what scanners send, and what archives (PACS) take."""

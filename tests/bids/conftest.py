"""Tiny made-up BIDS datasets, and ways to spoil them."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

PHASE = {"Units": "rad"}
COMMON = {"MagneticFieldStrength": 3, "Manufacturer": "Siemens", "MRAcquisitionType": "3D", "ScanningSequence": "GR"}
AFFINE = np.diag([-1.0, 1.0, 2.0, 1.0])


class Dataset:
    """A BIDS dataset of random images."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        self._rng = np.random.default_rng(0)
        self.write_json("dataset_description.json", {"Name": "made up", "BIDSVersion": "1.10.0"})

    def add_run(
        self,
        subject: str = "01",
        *,
        session: str | None = None,
        entities: str = "",
        echo_times: tuple[float, ...] = (0.004, 0.008, 0.012),
        parts: tuple[str, ...] = ("mag", "phase"),
        suffix: str = "MEGRE",
        shape: tuple[int, ...] = (6, 7, 5),
    ) -> list[Path]:
        """Write the images and sidecars of a run and return the images, echo by echo."""
        anat = Path(f"sub-{subject}", *([f"ses-{session}"] if session else []), "anat")
        stem = "_".join(word for word in (f"sub-{subject}", session and f"ses-{session}", entities) if word)
        written = []
        for number, time in enumerate(echo_times, start=1):
            for part in parts:
                echo = f"_echo-{number}" if suffix == "MEGRE" else ""
                name = f"{stem}{echo}_part-{part}_{suffix}" if part else f"{stem}{echo}_{suffix}"
                written.append(self.write_image(anat / f"{name}.nii.gz", self.values(part, shape)))
                units = PHASE if part == "phase" else {}
                self.write_json(anat / f"{name}.json", {**COMMON, **units, "EchoTime": time})
        return written

    def values(self, part: str, shape: tuple[int, ...]) -> np.ndarray:
        """Random values of a part; phase fills [-pi, pi]."""
        values = self._rng.uniform(-np.pi, np.pi, shape).astype(np.float32)
        values.flat[:2] = -np.pi, np.pi
        return np.abs(values) * 100 if part in ("mag", "") else values

    def write_image(self, path, values, affine=AFFINE, code=1) -> Path:
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        image = nib.Nifti1Image(values, affine)
        image.set_sform(affine, code)
        image.set_qform(None if not code else affine, code)
        image.to_filename(path)
        return path

    def write_json(self, path, content) -> Path:
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        return path

    def find(self, *words: str) -> list[Path]:
        """Files whose path holds all the words."""
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return [path for path in paths if all(word in str(path.relative_to(self.folder)) for word in words)]

    def remove(self, *words: str) -> None:
        for path in self.find(*words):
            path.unlink()

    def edit(self, *words: str, **changes) -> None:
        """Change entries of sidecars; None removes one."""
        for path in self.find(*words, ".json"):
            content = json.loads(path.read_text()) | changes
            path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset(tmp_path / "data")

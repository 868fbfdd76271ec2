"""The provenance of one run as BIDS-Prov files: which activity made each file, of what, by which software and where.

Derivatives name their activity and their checksum in their own sidecars, as BIDS-Prov asks; here stand the activities,
the raw files with their checksums, and what has no sidecar of its own.

References: BIDS specification, Provenance (BEP028), https://bids-specification.readthedocs.io.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from qsmprep.bids.names import is_of_run
from qsmprep.bids.outputs import NOT_LASTING, figures_folder, subject_folder, write_json, write_text
from qsmprep.bids.prov import identifier, parameter_values, prov_label, software_ids
from qsmprep.bids.reading import read_json_object
from qsmprep.files.age import is_of_earlier_command
from qsmprep.files.checksum import sha256_of
from qsmprep.findings import fact_values

PROV = "prov"
OWN_SIDECAR = (".nii.gz", ".tsv", ".txt")
# Stages whose results are files without a sidecar of a derivative: what a file's name ends with -> stage, and label.
BESIDE = {"_qc.json": ("quality", "Quality numbers"), "_stats.tsv": ("roi", "Regional values"),
          "_dseg.nii.gz": ("segmentation", "Regions on the grid of the maps"),
          "_dseg.tsv": ("segmentation", "Regions on the grid of the maps"),
          "_xfm.txt": ("registration", "Spin echoes onto gradient echoes")}  # fmt: skip
Document = dict[str, Any]


@dataclass(frozen=True)
class Given:
    """A file from outside the dataset that stands for the result of a stage, or goes into it."""

    stage: str
    path: Path


def prov_folder(prefix: str) -> Path:
    """Folder of the provenance of a run, relative to the output folder: a group of files of its own."""
    return Path(PROV, f"prov-{prov_label(prefix)}")


def write_lineage(
    output_dir: Path, record: Mapping[str, Any], machine: Mapping[str, Any], *, settings: str, given: Sequence[Given]
) -> None:
    """Write the four files of a run's provenance, and the table of all runs.

    Parameters
    ----------
    record : of the run, as written beside its figures.
    machine : as `machine_facts` tells.
    settings : the run's settings file, relative to the output folder.
    given : files that did not come of the dataset. Their checksums are those of the record.
    """
    lineage = _Lineage(output_dir, record, machine, settings, given)
    folder = output_dir / prov_folder(record["run"])
    for suffix, key, objects in (
        ("act", "Activities", lineage.activities()),
        ("ent", "ProvEntities", lineage.entities()),
        ("soft", "Software", lineage.software()),
        ("env", "Environments", [lineage.environment()]),
    ):
        write_json(folder / f"{folder.name}_{suffix}.json", {key: objects})
    _write_table(output_dir / PROV)


class _Lineage:
    """The provenance of one run while it is put together."""

    def __init__(
        self,
        output_dir: Path,
        record: Mapping[str, Any],
        machine: Mapping[str, Any],
        settings: str,
        given: Sequence[Given],
    ) -> None:
        self.output_dir, self.record, self.machine, self.settings = output_dir, record, machine, settings
        self.given = given
        self.prefix: str = record["run"]
        self.run_id = identifier("run", self.prefix, record["command"], record["started"])
        self.software_ids = software_ids(record["software"])
        self.sidecars: dict[str, Document] = {}  # of the derivatives, by their BIDS URI
        self.beside: list[Path] = []  # files without one
        for path in _files_of(output_dir, self.prefix):
            sidecar = _sidecar_of(output_dir / path)
            if sidecar.get("GeneratedBy"):
                self.sidecars[f"bids::{path.as_posix()}"] = sidecar
            else:
                self.beside.append(path)

    def activities(self) -> list[Document]:
        """The command, and of each derivative what led to it from its sources."""
        found: dict[str, Document] = {}
        for uri, sidecar in self.sidecars.items():
            sources = list(sidecar.get("Sources", ()))
            before = {_key(step) for source in sources if not self._of_one_stage(source, sidecar)
                      for step in self._steps_of(source)}  # fmt: skip
            steps = [step for step in sidecar["ProcessingSteps"] if _key(step) not in before]
            used = [*sources, *self._given_to(steps)]
            name = sidecar["GeneratedBy"]
            activity = self._activity(name, used, steps)
            if self._is_earlier(uri):
                activity = _without_command(activity, sidecar.get("ProcessingSoftware", {}))
            found.setdefault(name, activity)
        for path in self.beside:
            stage, label = _beside(path)
            steps = [step for step in self.record["steps"] if step["stage"] == stage]
            name = self._beside_id(path)
            found.setdefault(name, self._activity(name, self._sources_beside(path), steps, label))
        return [self._command(), *found.values()]

    def entities(self) -> list[Document]:
        """Raw files, files given from elsewhere, and outputs without a sidecar that could tell of them."""
        checksums: Mapping[str, str] = self.record.get("checksums", {})
        raw = self.record["inputs"] if checksums else ()  # of a joint map: in the groups of the runs that it joins
        found = [_entity(f"bids:raw:{path}", path, checksums.get(path)) for path in raw]
        found += [_entity(_given_id(one), str(one.path), checksums.get(str(one.path))) for one in self.given]
        for name, facts in self._networks().items():
            found.append(_entity(name, facts["network_weights"], facts.get("network_sha256")))
        for path in self.beside:
            # The page of a subject changes with each of its runs; a checksum of it would be wrong by the next.
            digest = None if path.suffix == ".html" else sha256_of(self.output_dir / path)
            entity = _entity(f"bids::{path.as_posix()}", path.as_posix(), digest)
            found.append({**entity, "GeneratedBy": self._beside_id(path)})
        return found

    def software(self) -> list[Document]:
        """Every package in the version that ran."""
        found = {}
        for versions in (self.record["software"], *(s.get("ProcessingSoftware", {}) for s in self.sidecars.values())):
            for package, name in software_ids(versions).items():
                found[name] = {"Id": name, "Label": package, "Version": versions[package]}
        return list(found.values())

    def environment(self) -> Document:
        """The machine."""
        system = self.machine["system"]
        facts = {"Processor": self.machine["processor"], "InstructionSets": self.machine["instruction_sets"]}
        return {"Id": self._environment_id(), "Label": system, "OperatingSystem": system, **facts}

    def _is_earlier(self, uri: str) -> bool:
        """Whether a derivative is of an earlier command, of which nothing is known but what its sidecar tells."""
        return is_of_earlier_command(self.output_dir / uri.removeprefix("bids::"), self.record["started"])

    def _environment_id(self) -> str:
        return identifier("environment", dict(self.machine))

    def _command(self) -> Document:
        started = datetime.fromisoformat(self.record["started"])
        ended = started + timedelta(seconds=float(self.record["seconds"]))
        used = [f"bids::{self.settings}", *(f"bids:raw:{path}" for path in self.record["inputs"])]
        return {
            **self._activity(self.run_id, used, (), f"qsmprep of {self.prefix}"),
            "StartedAtTime": started.isoformat(timespec="seconds"),
            "EndedAtTime": ended.isoformat(timespec="seconds"),
        }

    def _activity(self, name: str, used: Iterable[str], steps: Sequence[Document], label: str = "") -> Document:
        told = [f"{step['stage']}: {step['title']}" for step in steps]
        part = {} if name == self.run_id else {"InformedBy": self.run_id}
        return {
            "Id": name,
            "Label": label or "; ".join(told) or name.partition("#")[2],
            "Command": self.record["command"],
            "AssociatedWith": list(self.software_ids.values()),
            "Used": [*dict.fromkeys(used), self._environment_id()],
            **part,
            "Steps": [{"Stage": step["stage"], "Method": step["method"], "Parameters": parameter_values(step)}
                      for step in steps],
        }  # fmt: skip

    def _of_one_stage(self, source: str, sidecar: Document) -> bool:
        """Whether a source came of the same stage as a derivative, as the mask of an inversion beside its map."""
        other = self.sidecars.get(source, {}).get("GeneratedBy", "")
        return bool(other) and _stage(other) == _stage(sidecar["GeneratedBy"])

    def _steps_of(self, source: str) -> list[Document]:
        """Steps that led to a source: one of this run, or of another of the same folder."""
        if source in self.sidecars:
            return list(self.sidecars[source]["ProcessingSteps"])
        if not source.startswith("bids::"):
            return []
        return list(_sidecar_of(self.output_dir / source.removeprefix("bids::")).get("ProcessingSteps", ()))

    def _given_to(self, steps: Iterable[Document]) -> list[str]:
        """What came into these steps from outside the dataset: results taken over, regions, weights of networks."""
        steps = list(steps)
        stages = {step["stage"] for step in steps}
        networks = self._networks(steps)
        return [_given_id(one) for one in self.given if one.stage in stages] + list(networks)

    def _networks(self, steps: Iterable[Document] | None = None) -> dict[str, Document]:
        facts = [fact_values(step.get("facts")) for step in (self.record["steps"] if steps is None else steps)]
        return {
            identifier("provEntity", told["network_weights"], told.get("network_sha256")): told
            for told in facts
            if told.get("network_weights")
        }

    def _sources_beside(self, path: Path) -> list[str]:
        """What a file without a derivative's sidecar was made of: as it says itself, else the maps of the run."""
        told = _sidecar_of(self.output_dir / path)
        named = [*told.get("Sources", ()), *([told["SpatialReference"]] if "SpatialReference" in told else [])]
        return named or list(self.sidecars)

    def _beside_id(self, path: Path) -> str:
        stage, _ = _beside(path)
        return identifier(stage, self.prefix, stage, self._sources_beside(path), self.record["software"])


def _without_command(activity: Document, software: Mapping[str, str]) -> Document:
    """An activity of another command than that of the record: by its own software, on a machine that is not known."""
    kept = {key: value for key, value in activity.items() if key not in ("Command", "InformedBy")}
    return {**kept, "AssociatedWith": list(software_ids(software).values()), "Used": activity["Used"][:-1]}


def _files_of(output_dir: Path, prefix: str) -> list[Path]:
    """Files of a run that are no sidecars, relative to the output folder, and the page of its subject."""
    found = []
    for folder in (subject_folder(prefix) / "anat", subject_folder(prefix) / "fmap", figures_folder(prefix)):
        paths = sorted((output_dir / folder).glob(f"{prefix}_*"))
        names = {path.name for path in paths}
        for path in paths:
            is_sidecar = any(path.name.removesuffix(".json") + end in names for end in OWN_SIDECAR)
            if is_of_run(path.name, prefix) and path.is_file() and not (path.suffix == ".json" and is_sidecar):
                found.append(path.relative_to(output_dir))
    return [*found, Path(f"{subject_folder(prefix).parts[0]}.html")]


def _sidecar_of(path: Path) -> Document:
    """The document beside a file; empty where there is none."""
    name = re.sub(r"\.(nii\.gz|nii|tsv|txt)$", "", path.name)
    if name == path.name:
        return {}
    try:
        return read_json_object(path.with_name(f"{name}.json"))
    except ValueError:
        return {}


def _stage(name: str) -> str:
    return name.partition("#")[2].rpartition("-")[0]


def _beside(path: Path) -> tuple[str, str]:
    found = (told for ending, told in BESIDE.items() if path.name.endswith(ending))
    return next(found, ("report", "Report and its figures"))


def _key(step: Mapping[str, Any]) -> str:
    told = {key: value for key, value in step.items() if key not in (*NOT_LASTING, "figures")}
    return json.dumps(told, sort_keys=True)


def _given_id(one: Given) -> str:
    return identifier("provEntity", str(one.path))


def _entity(name: str, location: str, digest: str | None) -> Document:
    told = {"Digest": {"sha256": digest}} if digest else {}
    return {"Id": name, "Label": Path(location).name, "AtLocation": location, **told}


def _write_table(folder: Path) -> None:
    """The table of the groups of provenance: one a run."""
    groups = sorted(path.name for path in folder.glob("prov-*") if path.is_dir())
    lines = [f"{group}\tProvenance of the run {group.removeprefix('prov-')}" for group in groups]
    write_text(folder / "provenance.tsv", "\n".join(["provenance_label\tdescription", *lines]) + "\n")
    columns = {"description": {"Description": "Of what run the files of this label tell."}}
    write_json(folder / "provenance.json", columns)

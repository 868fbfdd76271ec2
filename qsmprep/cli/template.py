"""`qsmprep-tools template`: a template of magnitude and susceptibility of a study's subjects."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qsmprep import __version__
from qsmprep.bids.group import natural
from qsmprep.bids.names import bare_label
from qsmprep.bids.reading import read_json_object
from qsmprep.cli.paths import folder_path
from qsmprep.cli.program import Parser, add_command

if TYPE_CHECKING:
    from qsmprep.app.template_building import Subject, Template

MISSING_ANTS = 'the study template needs ANTs: pip install "qsmprep[atlas]"'
NAME = "tpl-study"
VOXEL_MM = (0.3, 5.0)


def add_template(commands: argparse._SubParsersAction[Parser]) -> None:
    """Add the subcommand."""
    text = (
        "build a template of magnitude and susceptibility from the results of a study, by affine and SyN registration"
    )
    parser = add_command(commands, "template", text)
    parser.add_argument(
        "out", metavar="OUT", type=folder_path, help="output folder of qsmprep with the results of the subjects"
    )
    parser.add_argument("template_dir", metavar="TEMPLATE_DIR", type=folder_path, help="folder for the template")
    parser.add_argument(
        "--iterations", type=int, default=4, metavar="N", help="number of rounds of registration (default: 4)"
    )
    parser.add_argument(
        "--participants", nargs="+", default=[], metavar="LABEL", help="only these subjects (default: all)"
    )
    parser.add_argument(
        "--voxel-size",
        type=float,
        metavar="MM",
        help="edge of the voxels of the template [mm] (default: median of the maps)",
    )
    parser.add_argument("--quick", action="store_true", help="leave out the finest level of the registration")
    parser.add_argument(
        "--work-dir",
        type=folder_path,
        metavar="PATH",
        help="folder in which intermediate files are kept (default: none are)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Find the subjects' maps, build the template, write it."""
    if arguments.iterations < 1:
        raise ValueError(f"--iterations is {arguments.iterations}; it must be 1 or more.")
    if arguments.voxel_size is not None and not VOXEL_MM[0] <= arguments.voxel_size <= VOXEL_MM[1]:
        raise ValueError(f"--voxel-size is {arguments.voxel_size:g} mm; give {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g}.")
    subjects, left_out = find_subjects(arguments.out, arguments.participants)
    ants = _ants()
    from qsmprep.app.template_building import build_template

    for text in left_out:
        print(f"Left out: {text}")
    voxel_size_mm = arguments.voxel_size or _voxel_size_mm(subjects)
    with tempfile.TemporaryDirectory(prefix="qsmprep-template-") as temporary:
        work = arguments.work_dir or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        template = build_template(
            subjects,
            work,
            iterations=arguments.iterations,
            voxel_size_mm=voxel_size_mm,
            quick=arguments.quick,
            ants=ants,
            progress=lambda line: print(line, flush=True),
        )
    facts = {
        "Iterations": arguments.iterations,
        "Registration": "antsRegistrationSyNQuickRepro" if arguments.quick else "antsRegistrationSyNRepro",
        "ANTsPyVersion": str(getattr(ants, "__version__", "unknown")),
        "VoxelSize": voxel_size_mm,
        "LeftOut": left_out,
    }
    write_template(arguments.template_dir, template, subjects, arguments.out, facts)
    print(f"Template of {len(subjects)} subjects: {arguments.template_dir}")
    return 0


def find_subjects(output_dir: Path, participants: Sequence[str] = ()) -> tuple[list[Subject], list[str]]:
    """One run of each subject, and in words what was left out.

    The first run in the order of names is taken, of those not judged "do not use": a subject counts once.

    Raises
    ------
    ValueError : no results, an unknown participant, a file missing beside a map, or fewer than two subjects.
    """
    from qsmprep.app.template_building import Subject

    wanted = {bare_label(label, "sub") for label in participants}
    maps = [*output_dir.glob("sub-*/anat/*_Chimap.nii.gz"), *output_dir.glob("sub-*/ses-*/anat/*_Chimap.nii.gz")]
    chosen: dict[str, Subject] = {}
    known, left_out = set(), []
    main = [path for path in maps if "_desc-" not in path.name and "_space-" not in path.name]
    for chi in sorted(main, key=lambda path: natural(path.name)):
        run = chi.name.removesuffix("_Chimap.nii.gz")
        label = chi.relative_to(output_dir).parts[0].removeprefix("sub-")
        known.add(label)
        if wanted and label not in wanted:
            continue
        if _verdict(chi.with_name(f"{run}_qc.json")) == "do not use":
            left_out.append(f'{run}: judged "do not use"')
        elif label in chosen:
            left_out.append(f"{run}: a further run of sub-{label}")
        else:
            fmap = chi.parents[1] / "fmap"
            chosen[label] = Subject(
                label, run, chi, fmap / f"{run}_magnitude.nii.gz",
                chi.with_name(f"{run}_desc-qsm_mask.nii.gz"), chi.with_name(f"{run}_desc-brain_mask.nii.gz"),
            )  # fmt: skip
    if unknown := wanted - known:
        raise ValueError(f"{output_dir}: no susceptibility map of {', '.join(f'sub-{u}' for u in sorted(unknown))}.")
    if len(chosen) < 2:
        raise ValueError(f"{output_dir}: usable susceptibility maps of {len(chosen)} subjects; a template needs two.")
    for subject in chosen.values():
        for path in (subject.magnitude, subject.mask, subject.brain):
            if not path.is_file():
                raise ValueError(f"{path}: missing. Run qsmprep again for sub-{subject.subject}, or leave it out.")
    return list(chosen.values()), left_out


def write_template(
    folder: Path, template: Template, subjects: Sequence[Subject], output_dir: Path, facts: dict[str, Any]
) -> None:
    """Write mean, s.d. and count of susceptibility, the mean magnitude, and what they were made of."""
    from qsmprep.bids.outputs import write_image, write_json

    images = {
        "desc-mean_Chimap": (template.chi.mean, "Mean of the subjects whose mask holds the voxel.", "ppm"),
        "desc-sd_Chimap": (template.chi.sd, "Standard deviation over these subjects.", "ppm"),
        "desc-count_Chimap": (template.chi.count, "Number of these subjects.", "1"),
        "magnitude": (template.magnitude, "Mean of the brains' magnitude over its median.", "arbitrary"),
    }  # fmt: skip
    for name, (array, description, unit) in images.items():
        write_image(folder / f"{NAME}_{name}.nii.gz", array, template.affine)
        write_json(folder / f"{NAME}_{name}.json", {"Description": description, "Units": unit, "SkullStripped": True})
    document = {
        "Description": "Study template of magnitude and susceptibility.",
        "Software": {"qsmprep": __version__},
        **facts,
        "ChangeOfMeanPpm": list(template.changes),
        "Subjects": len(subjects),
        "Inputs": [
            {"participant_id": f"sub-{subject.subject}", "run": subject.run}
            | {
                key: getattr(subject, key).relative_to(output_dir).as_posix()
                for key in ("chi", "magnitude", "mask", "brain")
            }
            for subject in subjects
        ],
    }
    write_json(folder / f"{NAME}_template.json", document)


def _ants() -> Any:
    try:
        import ants
    except ImportError as error:
        raise ValueError(f"{MISSING_ANTS} ({error}).") from None
    return ants


def _verdict(path: Path) -> str:
    try:
        return str(read_json_object(path).get("verdict", ""))
    except ValueError:
        return ""


def _voxel_size_mm(subjects: Sequence[Subject]) -> float:
    """Median over subjects of the edge of a cube of their voxels' volume, to 0.1 mm."""
    from qsmprep.interfaces.images import read_grid

    edges = [float(np.prod(read_grid(subject.chi).voxel_size_mm)) ** (1 / 3) for subject in subjects]
    return round(float(np.median(edges)), 1)

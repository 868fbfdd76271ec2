"""What the user may say of how the images are found and read."""

from __future__ import annotations

from dataclasses import dataclass

from qsmprep.options import option, words_of
from qsmprep.phase.bipolar import CHOICES as BIPOLAR_CHOICES
from qsmprep.phase.slices import CHOICES as SLICE_CHOICES


@dataclass(frozen=True)
class InputOptions:
    """How the images are read."""

    field_strength: float | None = option(
        None, "field strength, for data whose sidecars lack it", unit="T", low=0.1, high=20, none="that of the sidecars"
    )
    b0_direction: str | None = option(None, "direction of B0 in voxel axes", none="that of the affine", metavar="X,Y,Z")
    phase_sign: str = option(
        "auto", "keep or invert the phase; auto: invert that of GE (consensus S2)", choices=("auto", "keep", "invert")
    )
    bipolar: str = option(
        "auto",
        "phase between odd and even echoes of a bipolar readout; auto: plane, where the phase shows one; plane: a "
        "plane is taken off in any case; mcpc-3d-s: a smooth map, by the offset removal; off: it stays",
        choices=BIPOLAR_CHOICES,
    )
    datatype: str = option(
        "anat",
        "folders of the dataset that are looked into; anat: MEGRE, T2starw, MPM; func: bold, sbref (EPI)",
        choices=("anat", "func"),
        metavar="FOLDER",
        several=True,
    )
    echo_times: str | None = option(
        None,
        "echo times of echoes in one file, where EchoTime is no list of them",
        unit="s",
        none="those of the sidecars",
        metavar="S[,S...]",
    )
    volumes: str = option(
        "auto",
        "volumes of a time series; mean: one map of their complex mean; each: one map a volume; auto: mean for bold, "
        "others are refused",
        choices=("auto", "mean", "each"),
    )
    slice_phase: str = option(
        "auto",
        "phase offsets of single slices; auto: those of a 2D scan are taken off where they show; align: in any case; "
        "keep: they stay",
        choices=SLICE_CHOICES,
    )
    echoes: str | None = option(
        None, "echoes to use after phase offset removal, counted from 1", none="all", metavar="N[,N...]"
    )

    def datatypes(self) -> tuple[str, ...]:
        """The folders that are looked into."""
        return words_of(self.datatype)

    def b0_vector(self) -> tuple[float, float, float] | None:
        """The given direction of B0 as three numbers, or None to take the affine's."""
        if self.b0_direction is None:
            return None
        try:
            x, y, z = (float(part) for part in self.b0_direction.split(","))
        except ValueError:
            raise ValueError(f"--b0-direction is {self.b0_direction!r}; give three numbers as 0,0,1.") from None
        if not 0 < x * x + y * y + z * z < float("inf"):
            raise ValueError(f"--b0-direction is {self.b0_direction!r}; it must not be the null vector.")
        return x, y, z

    def echo_times_s(self) -> tuple[float, ...]:
        """The given echo times in seconds; empty to take the sidecars'."""
        if self.echo_times is None:
            return ()
        try:
            times = tuple(float(part) for part in self.echo_times.split(","))
        except ValueError:
            raise ValueError(
                f"--echo-times is {self.echo_times!r}; give numbers in seconds as 0.004,0.008,0.012."
            ) from None
        if not all(0 < time < 1 for time in times):
            raise ValueError(f"--echo-times is {self.echo_times!r}; give the times in seconds, as 0.004,0.008,0.012.")
        return times

    def echo_numbers(self) -> tuple[int, ...] | None:
        """The chosen echoes counted from 1, ascending, or None for all."""
        if self.echoes is None:
            return None
        try:
            chosen = tuple(sorted({int(part) for part in self.echoes.split(",")}))
        except ValueError:
            raise ValueError(f"--echoes is {self.echoes!r}; give whole numbers as 1,2,4.") from None
        if not chosen or chosen[0] < 1:
            raise ValueError(f"--echoes is {self.echoes!r}; echoes are counted from 1.")
        return chosen

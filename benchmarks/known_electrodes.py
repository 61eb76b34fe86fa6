"""Five well-known electrodes from their hosts alone: fast, refined and by CHGNet's energies.

    python benchmarks/known_electrodes.py

Ions are put into the host's voids up to the compound in the first column; the voltage by energies
is the average up to there. DFT: the Materials Project's electrode of the same compound and
framework, where there is one; measured: as the known hosts cite it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from voltscreen.cli.output import number, print_table
from voltscreen.model import load_model, predict_candidates
from voltscreen.model.refiner import load_refiner
from voltscreen.potentials.chgnet import ChgnetPotential
from voltscreen.potentials.insertion import insertion_energies, insertion_numbers
from voltscreen.potentials.refinement import look
from voltscreen.potentials.short_look import SHORT_LOOK_NUMBERS, short_looks
from voltscreen.sources import candidates
from voltscreen.structures import Candidate, PackedStructure
from voltscreen.train.refined import SecondLook, refine_voltages


@dataclass(frozen=True)
class Electrode:
    """compound: discharged. host: a known host; ions: in its cell when discharged.

    dft, measured: volt. swap: atomic numbers of a metal and of the one that takes its place.
    """

    compound: str
    host: str
    ion: str
    ions: int
    dft: float | None = None
    measured: float | None = None
    swap: tuple[int, int] | None = None

    def candidate(self) -> Candidate:
        """The known host."""
        found = next(iter(candidates("hosts", [self.host], Path("/"))))
        assert isinstance(found, Candidate)  # known hosts are sound
        return found

    def structure(self) -> PackedStructure:
        """The host."""
        host = self.candidate().structure
        if self.swap is None:
            return host
        numbers = np.where(host.atomic_numbers == self.swap[0], self.swap[1], host.atomic_numbers)
        return PackedStructure.from_arrays(host.lattice, host.frac_coords, numbers)

    def experiment(self) -> float | None:
        """Volt."""
        if self.measured is not None:
            return self.measured
        return next((m.voltage for m in self.candidate().measured if m.ion == self.ion), None)


ELECTRODES = (
    Electrode("MgMn2O4", "mno2-lambda", "Mg", 2, 2.35),  # mp-1003856_Mg
    Electrode("LiMn2O4", "mno2-lambda", "Li", 2),
    Electrode("LiCoO2", "coo2-o3", "Li", 1),
    Electrode("LiFePO4", "fepo4-olivine", "Li", 4, 3.40),  # mp-19017_Li
    # O3 FeO2 in the shape of CoO2; N. Yabuuchi et al., Electrochemistry 80, 716 (2012).
    Electrode("NaFeO2", "coo2-o3", "Na", 1, measured=3.3, swap=(27, 26)),
)


def main() -> None:
    model, refiner = load_model("default"), load_refiner()
    potential = ChgnetPotential("cpu")
    rows = []
    for electrode in ELECTRODES:
        host, ion = electrode.structure(), electrode.ion
        fast = predict_candidates(model, [host])[0].ions[ion]
        found = look(potential, host, ion, electrode.ions)
        short = short_looks(potential, host, [ion])[0]
        labels = insertion_energies(potential, host, [ion])
        asked = SecondLook(
            host=host, ion=ion, fast=fast.voltage, half90=(fast.hi90 - fast.lo90) / 2,
            insertion=insertion_numbers(labels), energies=short.energies,
            short={name: getattr(short, name) for name in SHORT_LOOK_NUMBERS},
            crystal=labels.crystal.tolist(),
        )  # fmt: skip
        refined = refine_voltages(refiner, [asked])[0]
        end = found.end
        rows.append(
            [
                electrode.compound,
                number(fast.voltage),
                number(refined.voltage),
                f"{number(refined.lo90)} to {number(refined.hi90)}",
                number(found.voltage),
                number(electrode.dft),
                number(electrode.experiment()),
                number(None if end is None else end.count, 0),
                number(None if end is None else 100 * end.volume_change, 1),
                found.failure,
            ]
        )
    print_table(
        ["Electrode", ("Fast", "right"), ("Refined", "right"), ("90 % interval", "right"),
         ("Energies", "right"), ("DFT", "right"), ("Measured", "right"), ("Ions", "right"),
         ("Volume %", "right"), "Failed"],
        rows,
        title="Volt; ions in the host's cell; volume change by the ions",
    )  # fmt: skip


if __name__ == "__main__":
    main()

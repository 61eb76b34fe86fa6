"""All checks in their order: what a later one needs is mended before it looks."""

from __future__ import annotations

from dataclasses import dataclass

from voltscreen.campaign.doctor import documents, fireworks, models, results
from voltscreen.campaign.doctor.finding import Check, Finding, Patient
from voltscreen.errors import VoltscreenError

CHECKS: tuple[Check, ...] = (
    documents.missing_indexes,
    documents.old_schemas,
    models.damaged_models,
    models.damaged_copies,
    documents.leases,
    fireworks.locked_workflows,
    fireworks.halves,
    fireworks.orphans,
    fireworks.lost_runs,
    fireworks.sleepers,
    results.holes,
    results.idle_batches,
    results.loose_voltages,
)


@dataclass(frozen=True)
class Diagnosis:
    """What was found. mended: repaired; left: could not be, with the reason."""

    findings: tuple[Finding, ...]
    mended: tuple[Finding, ...] = ()
    left: tuple[tuple[Finding, str], ...] = ()


def examine(patient: Patient, *, repair: bool = False) -> Diagnosis:
    """Run every check; with `repair`, mend what it finds before the next one looks.

    What somebody still works on is never touched. A second repair finds nothing more to do.
    """
    findings: list[Finding] = []
    mended: list[Finding] = []
    left: list[tuple[Finding, str]] = []
    for check in CHECKS:
        for finding in list(check(patient)):
            findings.append(finding)
            if not repair:
                continue
            if finding.mend is None:
                left.append((finding, finding.repair))
                continue
            try:
                finding.mend()
            except (VoltscreenError, LookupError) as error:
                left.append((finding, str(error)))
            else:
                mended.append(finding)
    return Diagnosis(tuple(findings), tuple(mended), tuple(left))

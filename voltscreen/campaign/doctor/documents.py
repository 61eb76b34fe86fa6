"""Indexes, schema versions and leases."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from voltscreen.campaign.doctor.finding import Finding, Kind, Patient
from voltscreen.store import indexes
from voltscreen.store.documents import SCHEMA_VERSION
from voltscreen.store.lease import dead_leases, drop_lease
from voltscreen.store.migrations import migrate, outdated


def missing_indexes(patient: Patient) -> Iterator[Finding]:
    """Documented indexes that are absent."""
    database = patient.store.database
    for name in indexes.missing_indexes(database):
        yield Finding(
            Kind.INDEX,
            name,
            "queries read the whole collection",
            "the index is created",
            partial(indexes.ensure_indexes, database),
        )


def old_schemas(patient: Patient) -> Iterator[Finding]:
    """Documents that an older voltscreen wrote."""
    for collection, count in outdated(patient.store.database).items():
        yield Finding(
            Kind.SCHEMA,
            collection,
            f"{count} documents were written before schema version {SCHEMA_VERSION}",
            "they are migrated, as `voltscreen db migrate` does",
            partial(migrate, patient.store.database, [collection]),
        )


def leases(patient: Patient) -> Iterator[Finding]:
    """Leases of submits whose process died."""
    for row in dead_leases(patient.store):
        yield Finding(
            Kind.LEASE,
            repr(row["_id"]),
            "a process died while it did this; what it left half done is found below",
            "the lease is deleted; whoever does the same again would take it over, too",
            partial(drop_lease, patient.store, row),
        )

"""Campaigns: spec, FireWorks workflow, Firetasks, worker and status."""

"""Where candidates come from: files, Parquet tables, known hosts, the Materials Project."""

from voltscreen.sources.registry import SOURCE_KINDS, candidates, estimate, fingerprint

__all__ = ["SOURCE_KINDS", "candidates", "estimate", "fingerprint"]

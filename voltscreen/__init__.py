"""voltscreen: battery electrodes by high-throughput screening, explained atom by atom."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    # `voltscreen.open()` for notebooks; the command line must not wait for what it imports.
    if name == "open":
        from voltscreen.report.database import open_results

        return open_results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""voltscreen: battery electrodes by high-throughput screening, explained atom by atom."""

__version__ = "0.1.0"

"""Imported by the process that all others are forked from, and by nobody else."""

from tests.chaos.children import warm_up

warm_up()

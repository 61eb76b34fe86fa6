"""Imported by the process that all others are forked from, and by nobody else."""

import gc

from tests.chaos.children import warm_up

warm_up()
# What is loaded stays in pages that all share; a collection would write to each of them.
gc.collect()
gc.freeze()

"""Data sets, the transfer recipe, evaluation and model cards."""

"""Fuzzing of every reader of what a user or a download gives."""

"""Campaigns killed, stopped, stalled and cut off at every step: the end must be the same."""

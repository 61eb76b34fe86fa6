"""Graphs of many crystals at once, built with torch operations on any device."""

"""Measurements by `./run bench NAME`: each prints a table, then one line of JSON with what was aimed at and met."""

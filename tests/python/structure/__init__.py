"""Tests that keep the house: who may include or import whom, names, sizes, versions, what gets installed."""

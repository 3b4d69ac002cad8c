"""Processes that are killed, for real: what is lost, what goes on, and that nothing is left behind."""

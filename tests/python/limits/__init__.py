"""Machines that are short of something: each call gives right results, or an error that says what is missing."""

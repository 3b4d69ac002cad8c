"""The fidelity lane: what a worker sees, and what comes back, against a plain call."""

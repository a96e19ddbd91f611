"""Candidates, the champion and its releases, the gate between them, and MLflow's record of it."""

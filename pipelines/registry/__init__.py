"""Candidates, the champion, the gate between them, and MLflow's record of both."""

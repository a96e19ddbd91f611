"""Watching the released model: what the service logs, against the reference that travels with the bundle.

Offline and on its own: it reads the prediction log, and the serving environment has none of its dependencies.
"""

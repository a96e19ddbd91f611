"""What the service costs and what it withstands: its speed beside its peers' (`make bench`), long runs (`make soak`).

Depends on `service`; of the other packages only tests use it.
"""

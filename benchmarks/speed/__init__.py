"""How fast detection and the service are: `make bench`."""

"""What the service withstands: overload, faults, damaged images; for seconds in the tests, for minutes in `make soak`."""

"""What the service withstands: overload, faults, damaged images; seconds in the tests, minutes in `make soak`."""

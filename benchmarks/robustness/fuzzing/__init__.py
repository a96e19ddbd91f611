"""Fuzzing: mutations that know the structure of what they change, and the code of the service that they are fed to."""

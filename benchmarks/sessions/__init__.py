"""What a session is worth: its path, its filter and its hints, measured on people whom no model was trained on.

`people` selects photos of a split, `camera` makes them into frames as a phone in a hand sends them, `sequences` plays
the frames through the service's own session. `hints`, `stills`, `changes` and `video` measure; `filters` holds the
mood filter and those that it is compared with. No stage: it is run by hand after a release, or after a change of
sessions (`make bench-sessions`).
"""

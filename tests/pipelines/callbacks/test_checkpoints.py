"""Checkpoints: which of them are resumed."""

from pathlib import Path

from pipelines.callbacks.checkpoints import fingerprint


def test_the_fingerprint_changes_with_a_parameter_and_with_the_data(tmp_path: Path) -> None:
    data = tmp_path / "faces.npz"
    data.write_bytes(b"faces")
    before = fingerprint({"learning_rate": 0.001}, data)
    assert fingerprint({"learning_rate": 0.001}, data) == before
    assert fingerprint({"learning_rate": 0.002}, data) != before
    data.write_bytes(b"other faces")
    assert fingerprint({"learning_rate": 0.001}, data) != before

"""Face sets: files that are the same at every run and come back equal."""

from pathlib import Path

from pipelines.data.face_sets import FaceSet
from tests.support.toys import face_set, pictures


def test_face_sets_are_the_same_bytes_at_every_writing_and_come_back_equal(tmp_path: Path) -> None:
    faces = face_set(pictures(10, 3))
    faces.save(tmp_path / "one.npz")
    faces.save(tmp_path / "two.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    loaded = FaceSet.load(tmp_path / "one.npz")
    assert (loaded.pixels == faces.pixels).all()
    assert (loaded.soft_labels == faces.soft_labels).all()

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.evaluation import plots_page


def test_a_page_of_plots_loads_nothing_and_has_what_draws_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.chdir(tmp_path)
    Path("curve.csv").write_text("epoch,loss\n0,1.5\n1,1.25\n")

    assert plots_page.main(["show", "curve.csv", "-x", "epoch", "-y", "loss", "-o", "plots"]) == 0

    page = (tmp_path / "plots" / "index.html").read_text()
    assert "vegaEmbed('#" in page
    assert "<script src" not in page
    assert '"1.25"' in page

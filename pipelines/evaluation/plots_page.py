"""The plots of `dvc.yaml` as a page that opens without a network: `make plots`.

    python -m pipelines.evaluation.plots_page                 # all plots of the checkout
    python -m pipelines.evaluation.plots_page diff HEAD~1     # beside those of another commit

`dvc plots` loads Vega from the internet when its page is opened. This command gives it a page template that has Vega
inside. Arguments are those of `dvc plots`; without any, `show` is meant.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import vl_convert

from pipelines import markdown

_VEGA_LITE: Final = "5.21"  # the major version that DVC's own plot templates declare


def template() -> str:
    """The page template, with Vega, Vega-Lite and Vega-Embed (about 0.9 MB of JavaScript) inside."""
    vega = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)
    return markdown.page(Path(__file__).with_suffix(".html.j2"), vega=vega)


def main(arguments: Sequence[str]) -> int:
    """Run `dvc plots` with the template; returns its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "template.html")
        page.write_text(template(), encoding="utf-8")
        command = [sys.executable, "-m", "dvc", "plots", *(arguments or ["show"]), "--html-template", str(page)]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

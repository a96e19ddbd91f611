"""Fill an MLflow store that lacks them, such as a fresh clone's, with the candidates' runs and the champion.

Does nothing for what the store already holds, so that `make mlflow` can call it each time. A champion that the registry
has is left alone.
"""

from __future__ import annotations

from pipelines import paths, register
from pipelines.params import Params
from pipelines.registry import mlflow_store, runs, tracking
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion


def main() -> None:
    """Restore every run whose model is here, and the registry's champion."""
    tracking.connect()
    for architecture in Params.read().candidates:
        if not (paths.EVALUATION / architecture).exists():
            print(f"{architecture}: not trained and evaluated yet (dvc repro)")
            continue
        candidate = Candidate.of(architecture)
        print(f"{architecture}: run {runs.ensure_run(candidate)}")
    released = Champion.read()
    if mlflow_store.champion_version() is None and released is not None:
        register.adopt(released)
    version = mlflow_store.champion_version()
    print(f"champion: {f'version {version.version}' if version else 'none yet'}")


if __name__ == "__main__":
    main()

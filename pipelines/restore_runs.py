"""Restore the candidates' runs and the champion in an MLflow store that lacks them, such as a fresh clone's.

By hand, or by `make mlflow`, which calls it every time: it changes nothing that the store already holds, and leaves a
champion that the registry has.
"""

from __future__ import annotations

from pipelines import paths
from pipelines.params import Params
from pipelines.registry import mlflow_store, promotion, runs
from pipelines.registry.candidates import Candidate
from pipelines.registry.champion import Champion


def main() -> None:
    """Restore every run whose model is here, and the registry's champion."""
    mlflow_store.connect()
    for name in Params.read().candidates:
        if not (paths.EVALUATION / name).exists():
            print(f"{name}: not trained and evaluated yet (dvc repro)")
            continue
        print(f"{name}: run {runs.ensure_run(Candidate.of(name))}")
    released = Champion.read()
    if mlflow_store.champion_version() is None and released is not None:
        promotion.sync_from_git(released)
    version = mlflow_store.champion_version()
    print(f"champion: {f'version {version.version}' if version else 'none yet'}")


if __name__ == "__main__":
    main()

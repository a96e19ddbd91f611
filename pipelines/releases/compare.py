"""The compared models beside the candidates, by the gate's rule. By hand, and by `make compare` last.

    python -m pipelines.releases.compare

Changes no registry and no champion: a model that passes is named, and becomes a candidate if you make it one in
`params.yaml`. Writes the table of results anew.
"""

from __future__ import annotations

from pipelines.params import Params
from pipelines.registry import results
from pipelines.registry.candidates import METRICS_FILE, Candidate
from pipelines.registry.champion import Champion
from pipelines.releases import promotion


def main() -> None:
    """Judge all models that were measured on the candidates' faces, and write the table of results."""
    params = Params.read()
    measured = [
        Candidate.of(name)
        for name in params.evaluated
        if name in params.candidates or (params.evaluation(name) / METRICS_FILE).exists()
    ]
    today = measured[0].validation_faces
    comparable = [one for one in measured if one.validation_faces == today]
    for one in measured:
        if one not in comparable:
            print(f"{one.architecture}: measured on other faces than the candidates; `make compare` measures it again.")
    decision = promotion.judge(comparable, Champion.read(), params.gate)
    for name, bounds in decision.out_of_bounds.items():
        print(f"{name}: out of bounds, {'; '.join(bounds)}.")
    print(f"If every model were a candidate: {decision.reason}")
    if decision.promoted and decision.challenger is not None and decision.challenger.name in params.compared:
        name = decision.challenger.name
        print(f"Move {name} from `compared` to `candidates` in params.yaml; `dvc repro` does not train it again.")
    results.write(params)


if __name__ == "__main__":
    main()

"""What `dvc repro` would run and what its trainings cost. By hand, and by `make train` and `make compare` first.

    python -m pipelines.planning                    # dvc repro
    python -m pipelines.planning models/dvc.yaml    # all models, as `make compare`

Reads only; a wrong number in `params.yaml` ends it with a sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pipelines.params import Params
from pipelines.planning.stages import Step, plan
from pipelines.planning.training_cost import TrainingCost, training_cost


def duration(seconds: float) -> str:
    """A time as people say it: `2 h 05 min`, `40 min`, `less than a minute`."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    return f"{minutes} min" if minutes else "less than a minute"


def describe_steps(steps: Sequence[Step]) -> list[str]:
    """The stages that run, and those that run if the ones before them change their inputs."""
    own = [step for step in steps if step.changes]
    following = [step for step in steps if not step.changes]
    width = max(len(step.stage) for step in steps)
    lines = ["These stages have changed and run:"]
    for step in own:
        more = f" and {len(step.changes) - 3} more" if len(step.changes) > 3 else ""
        lines.append(f"  {step.stage:{width}}  {', '.join(step.changes[:3])}{more}")
    if following:
        lines.append("These run if a stage before them changes their inputs:")
        lines += [f"  {step.stage}" for step in following]
    return lines


def describe_costs(costs: Sequence[TrainingCost]) -> list[str]:
    """The trainings and their times."""
    if not costs:
        return ["No model is trained."]
    width = max(len(cost.model) for cost in costs)
    lines = []
    for cost in costs:
        epochs = f"{cost.epochs:3} epochs" + (f" ({cost.max_epochs} at most)" if cost.max_epochs > cost.epochs else "")
        faces = f"of {cost.faces:,} faces" if cost.faces else "of faces that are not cut yet"
        time = "time unknown"
        if cost.seconds is not None and cost.seconds_per_epoch is not None:
            time = f"some {duration(cost.seconds)} ({cost.seconds_per_epoch:.0f} s an epoch, {cost.measured})"
        lines.append(f"  {cost.model:{width}}  {epochs} {faces}, {time}")
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    total = f"{sum(cost.epochs for cost in costs)} epochs"
    if known:
        total += f", {'some' if len(known) == len(costs) else 'more than'} {duration(sum(known))}"
    return [f"Training, at most: {total}.", *lines]


def main(target: Annotated[str, typer.Argument(help="A dvc.yaml or one stage.")] = "dvc.yaml") -> None:
    """Print the stages that `dvc repro TARGET` would run, and the cost of its trainings."""
    params = Params.read()
    steps = plan(target)
    if not steps:
        print("Everything is up to date: nothing runs.")
        return
    print("\n".join(describe_steps(steps)), flush=True)
    costs = []
    for step in steps:
        if step.model is not None:
            changed = any(name.startswith("params.yaml") for name in step.changes)
            costs.append(training_cost(params, step.model, changed=changed))
    print("\n".join(describe_costs(costs)))
    if any(step.stage.endswith(":teach") for step in steps):
        print(f"The teacher predicts {params.teacher.views} views of each training face; its time is not in this.")


if __name__ == "__main__":
    typer.run(main)

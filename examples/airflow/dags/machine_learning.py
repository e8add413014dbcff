"""Machine learning with `@task.firecrest`: functions of this file run as jobs, and what they return are XComs.

A job draws two interleaved half circles of points, jobs train a small neural network on them with several learning
rates, and a job tests the best one on points that no training has seen. The data stay on the system; what travels are
arguments, weights and accuracies. Everything is plain Python, so that any interpreter on the system will do; with
`python=` a task gets one with PyTorch in it.
"""

# ruff: noqa: B905 - Python on a system may be too old for zip(strict=)

import os

from airflow.sdk import DAG, task

from crestline_airflow.operators import scratch_directory

options = {
    "system": os.environ.get("FIRECREST_SYSTEM", "local"),
    "python": "{{ params.python }}",
    "time_limit": "00:10:00",
}

with DAG(
    dag_id="machine_learning",
    tags=["firecrest-executor"],
    schedule=None,
    params={"points": 300, "epochs": 120, "python": "python3"},
) as dag:

    @task.firecrest(**options)
    def draw(count: str, directory: str) -> dict[str, str]:
        """Two half circles with noise, for training, validation and test; returns the files' paths."""
        import json
        import math
        import os
        import random

        dice = random.Random(5)
        files = {}
        for part in ("training", "validation", "test"):
            points = []
            for number in range(int(count)):
                kind, angle = number % 2, dice.uniform(0, math.pi)
                x, y = (math.cos(angle), math.sin(angle)) if kind else (1 - math.cos(angle), 0.5 - math.sin(angle))
                points.append([x + dice.gauss(0, 0.1), y + dice.gauss(0, 0.1), kind])
            files[part] = os.path.join(directory, f"{part}.json")
            with open(files[part], "w") as file:
                json.dump(points, file)
        return files

    @task.firecrest(**options)
    def train(files: dict[str, str], epochs: str, rate: float) -> dict:
        """One hidden layer, by stochastic gradient descent; returns the weights and the accuracy in validation."""
        import json
        import math
        import random

        with open(files["training"]) as file:
            points = json.load(file)
        with open(files["validation"]) as file:
            unseen = json.load(file)
        dice = random.Random(1)
        hidden = [[dice.gauss(0, 1) for _ in range(3)] for _ in range(8)]
        out = [dice.gauss(0, 1) for _ in range(9)]

        def forward(x: float, y: float) -> tuple[list[float], float]:
            layer = [math.tanh(a * x + b * y + c) for a, b, c in hidden]
            return layer, 1 / (1 + math.exp(-sum(w * h for w, h in zip(out, [*layer, 1.0]))))

        for epoch in range(int(epochs)):
            dice.shuffle(points)
            loss = 0.0
            for x, y, kind in points:
                layer, guess = forward(x, y)
                loss -= math.log(max(guess if kind else 1 - guess, 1e-12))
                error = guess - kind
                for weights, h, w in zip(hidden, layer, out):
                    slope = rate * error * w * (1 - h * h)
                    weights[0] -= slope * x
                    weights[1] -= slope * y
                    weights[2] -= slope
                for number, h in enumerate([*layer, 1.0]):
                    out[number] -= rate * error * h
            if epoch % 20 == 19:
                print(f"rate {rate}, epoch {epoch + 1}: loss {loss / len(points):.4f}")
        right = sum((forward(x, y)[1] > 0.5) == bool(kind) for x, y, kind in unseen)
        return {"rate": rate, "hidden": hidden, "out": out, "accuracy": right / len(unseen)}

    @task
    def best(models: list[dict]) -> dict:
        """The model that did best in validation; this one runs on the worker."""
        return max(models, key=lambda model: model["accuracy"])

    @task.firecrest(**options)
    def test(files: dict[str, str], model: dict) -> float:
        """The accuracy on points that had no part in the choice."""
        import json
        import math

        with open(files["test"]) as file:
            points = json.load(file)
        right = 0
        for x, y, kind in points:
            layer = [math.tanh(a * x + b * y + c) for a, b, c in model["hidden"]]
            right += (sum(w * h for w, h in zip(model["out"], [*layer, 1.0])) > 0) == bool(kind)
        print(f"rate {model['rate']}: {right} of {len(points)} points are right")
        return right / len(points)

    with scratch_directory("machine_learning/{{ run_id }}", system=options["system"]) as scratch:
        files = draw("{{ params.points }}", scratch)
        models = train.partial(files=files, epochs="{{ params.epochs }}").expand(rate=[0.003, 0.03, 0.1])
        test(files, best(models))

"""A wave that meets a wall with slits: the equation u_tt = c² Δu on a square grid, by the leapfrog scheme.

    python3 simulation.py --cells 96 --steps 300 --wavelength 8 --slits 2

Needs nothing but Python. Prints how far it is, and writes `result.json`: the wave at the end, and how bright each place
of a screen at the right edge has been.
"""

import argparse
import json
import math

COURANT = 0.5
"""c Δt / Δx; the scheme is stable up to 1/√2"""


def main() -> None:
    """Read the parameters, compute, write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=96, help="grid points along each edge")
    parser.add_argument("--steps", type=int, default=300, help="time steps")
    parser.add_argument("--wavelength", type=float, default=8, help="in grid points")
    parser.add_argument("--slits", type=int, default=2, help="openings in the wall")
    given = parser.parse_args()
    wave, screen = simulate(given.cells, given.steps, given.wavelength, given.slits)
    result = {
        "cells": given.cells,
        "wave": [[round(value, 4) for value in row] for row in wave],
        "screen": [round(value, 5) for value in screen],
    }
    with open("result.json", "w") as file:
        json.dump(result, file)
    print("result.json written", flush=True)


def simulate(cells: int, steps: int, wavelength: float, slits: int) -> tuple[list[list[float]], list[float]]:
    """The wave after the last step, and the mean brightness at the right edge."""
    wall, is_open = cells // 3, openings(cells, wavelength, slits)
    before = [[0.0] * cells for _ in range(cells)]
    now = [[0.0] * cells for _ in range(cells)]
    screen = [0.0] * cells
    square, absorb = COURANT**2, (COURANT - 1) / (COURANT + 1)
    for step in range(1, steps + 1):
        after = [now[0]]
        for above, row, below, old in zip(now, now[1:], now[2:], before[1:], strict=False):
            inner = [
                2 * u - b + square * (n + s + w + e - 4 * u)
                for u, b, n, s, w, e in zip(row[1:], old[1:], above[1:], below[1:], row, row[2:], strict=False)
            ]
            source = math.sin(2 * math.pi * COURANT * step / wavelength) * min(1.0, step * COURANT / wavelength)
            right = row[-2] + absorb * (inner[-1] - row[-1])  # what arrives there leaves (Mur)
            after.append([source, *inner, right])
        after[0] = edge(now[0], now[1], after[1], absorb)
        after.append(edge(now[-1], now[-2], after[-1], absorb))
        for row, opened in zip(after, is_open, strict=True):
            if not opened:
                row[wall] = 0.0
        before, now = now, after
        for place, row in enumerate(now):
            screen[place] += row[-2] ** 2 / steps
        if step % max(steps // 20, 1) == 0:
            print(f"step {step} of {steps}, brightness {sum(screen):.4f}", flush=True)
    return now, screen


def openings(cells: int, wavelength: float, slits: int) -> list[bool]:
    """Which rows of the wall are open: slits one wavelength wide, three apart."""
    centres = [cells / 2 + 3 * wavelength * (slit - (slits - 1) / 2) for slit in range(slits)]
    return [any(abs(row - centre) <= wavelength / 2 for centre in centres) for row in range(cells)]


def edge(now: list[float], inside: list[float], inside_after: list[float], absorb: float) -> list[float]:
    """The row at the rim after the step; what arrives there leaves."""
    return [i + absorb * (a - u) for u, i, a in zip(now, inside, inside_after, strict=True)]


if __name__ == "__main__":
    main()

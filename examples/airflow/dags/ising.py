"""Magnetisation of the two-dimensional Ising model at one temperature, by Metropolis' Monte Carlo method.

Usage: ising.py NUMBER POINTS LOWEST HIGHEST SWEEPS, for the NUMBER-th of so many temperatures between LOWEST and
HIGHEST (in units of the coupling over Boltzmann's constant). The result is the file `ising-NUMBER.json`.
"""

import json
import math
import random
import sys

SIZE = 16


def magnetisation(temperature, sweeps, seed):
    """Mean absolute magnetisation per spin, measured in the second half of the sweeps."""
    dice = random.Random(seed)
    spins = [[1] * SIZE for _ in range(SIZE)]
    accept = {change: math.exp(-change / temperature) for change in (4, 8)}
    measured = []
    for sweep in range(sweeps):
        for _ in range(SIZE * SIZE):
            row, column = dice.randrange(SIZE), dice.randrange(SIZE)
            neighbours = (
                spins[row - 1][column]
                + spins[(row + 1) % SIZE][column]
                + spins[row][column - 1]
                + spins[row][(column + 1) % SIZE]
            )
            change = 2 * spins[row][column] * neighbours
            if change <= 0 or dice.random() < accept[change]:
                spins[row][column] *= -1
        if sweep >= sweeps // 2:
            measured.append(abs(sum(map(sum, spins))) / SIZE**2)
    return sum(measured) / len(measured)


if __name__ == "__main__":
    number, points, sweeps = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[5])
    lowest, highest = float(sys.argv[3]), float(sys.argv[4])
    temperature = lowest + (highest - lowest) * number / (points - 1)
    result = {"temperature": temperature, "magnetisation": magnetisation(temperature, sweeps, number)}
    print("temperature {temperature:.3f}: magnetisation {magnetisation:.3f}".format(**result))
    with open("ising-%03d.json" % number, "w") as file:  # noqa: UP031 - old Pythons run this, too
        json.dump(result, file)

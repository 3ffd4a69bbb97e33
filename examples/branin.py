"""The swarm on the Branin function, whose minimum 0.397887 is known: no network, no GPU, a few seconds."""

from math import cos, pi

from swarm import PSO, Job, Real, run


def branin(params, ctx):
    x, y = params["x"], params["y"]
    return (y - 5.1 * (x / pi / 2) ** 2 + 5 * x / pi - 6) ** 2 + 10 * (1 - 1 / (8 * pi)) * cos(x) + 10


if __name__ == "__main__":  # trainings import this file, too, and skip what is below
    job = Job(
        name="branin",
        problem=branin,
        space={"x": Real(-5, 10), "y": Real(0, 15)},
        optimizer=PSO(particles=8, generations=25),
        direction="minimize",
        seed=1,
        isolation="thread",  # a child process for each call would cost more than the call
    )
    result = run(job, slots=2)
    if result.best:
        print(f"{result.best.fitness:.6f} at {result.best.params}")

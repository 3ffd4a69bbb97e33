"""JAX: swarm run takes it as it is. python examples/digits_jax.py"""

from swarm import PSO, Integer, Job, Real, run


def train(params, ctx):
    import jax  # once per worker: trainings are forked from a process that has it
    import jax.numpy as jnp
    import numpy as np
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(ctx.seed)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    shapes = {"hidden": (64, params["units"]), "out": (params["units"], 10)}
    weights = {name: rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32) for name, shape in shapes.items()}

    def outputs(weights, x):
        return jnp.maximum(x @ weights["hidden"], 0) @ weights["out"]

    def loss(weights, x, y):
        return -jnp.take_along_axis(jax.nn.log_softmax(outputs(weights, x)), y[:, None], axis=1).mean()

    @jax.jit  # on the slot's GPU, if it has one
    def step(weights, x, y):
        value, gradient = jax.value_and_grad(loss)(weights, x, y)
        return jax.tree.map(lambda w, g: w - params["rate"] * g, weights, gradient), value

    for epoch in range(5):
        for batch in rng.permutation(1400)[:1376].reshape(-1, 32):
            weights, value = step(weights, images[batch], labels[batch])
        guesses = np.asarray(outputs(weights, images[1400:])).argmax(axis=1)
        accuracy = float((guesses == labels[1400:]).mean())
        ctx.report(epoch=epoch + 1, loss=float(value), val_accuracy=accuracy)
    return accuracy


if __name__ == "__main__":
    space = {"units": Integer(4, 64), "rate": Real(1e-3, 3, log=True, digits=1)}
    result = run(Job(name="jax", problem=train, space=space, optimizer=PSO(particles=4, generations=3), seed=7))
    if result.best:  # it is None if no training has succeeded
        print(f"{result.best.fitness:.3f}", result.best.params)
    print(result.counts)

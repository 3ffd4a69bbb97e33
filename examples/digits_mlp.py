from swarm import PSO, Integer, Job, Real, run


def train(params, ctx):
    import keras  # once per worker: trainings are forked from a process that has it
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(ctx.seed)
    images, labels = load_digits(return_X_y=True)
    hidden = keras.layers.Dense(params["units"], activation="relu")
    network = keras.Sequential([hidden, keras.layers.Dense(10, activation="softmax")])
    network.compile(keras.optimizers.Adam(params["rate"]), "sparse_categorical_crossentropy", metrics=["accuracy"])
    log = network.fit(images / 16, labels, validation_split=0.2, epochs=5, verbose=0)
    return log.history["val_accuracy"][-1]


if __name__ == "__main__":
    space = {"units": Integer(4, 64), "rate": Real(1e-4, 0.3, log=True, digits=1)}
    result = run(Job(name="mlp", problem=train, space=space, optimizer=PSO(particles=4, generations=3), seed=7))
    if result.best:  # it is None if no training has succeeded
        print(f"{result.best.fitness:.3f}", result.best.params)
    print(result.counts)
    print(result.history[["generation", "source", "fitness", "units", "rate"]].tail())

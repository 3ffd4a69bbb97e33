"""What check.py has trained: small networks that write down where they ran, when, and who had the driver open."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

STEPS = int(os.environ.get("CHECK_STEPS", "200"))
HOLD = int(os.environ.get("CHECK_HOLD_MIB", "0"))


def note(**found: Any) -> None:
    """A line about this training."""
    parent = os.getppid()
    files = []
    for descriptor in Path(f"/proc/{parent}/fd").iterdir():
        try:
            files.append(str(descriptor.readlink()))
        except OSError:
            continue
    found |= {
        "pid": os.getpid(),
        "gpu": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "slot": os.environ.get("SWARM_SLOT"),
        "server": parent,
        "server_holds": sorted({name for name in files if name.startswith("/dev/nvidia")}),
        "server_threads": len(list(Path(f"/proc/{parent}/task").iterdir())),
    }
    with Path(os.environ["CHECK_NOTES"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")


def with_numpy(params: dict[str, Any], ctx: Any) -> float:
    """A network of two layers, on a CPU."""
    begin = time.time()
    import numpy as np

    imported = time.time()
    random = np.random.default_rng(ctx.seed)
    x, w = random.standard_normal((64, 32)), random.standard_normal((32, 32))
    first = None
    for _ in range(STEPS):
        w -= params["rate"] * x.T @ np.tanh(x @ w) / 64
        first = first or time.time()
    note(begin=begin, imported=imported, first=first, end=time.time(), steps=STEPS)
    return float(np.abs(w).mean())


def with_torch(params: dict[str, Any], ctx: Any) -> float:
    """A convolutional network on random images."""
    begin = time.time()
    import torch

    imported = time.time()
    torch.manual_seed(ctx.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images = torch.randn(64, 3, 32, 32, device=device)
    labels = torch.randint(0, 10, (64,), device=device)
    layers = [torch.nn.Conv2d(3, 32, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(4), torch.nn.Flatten()]
    network = torch.nn.Sequential(*layers, torch.nn.Linear(32 * 64, 10)).to(device)
    held = torch.empty(HOLD << 20, dtype=torch.uint8, device=device)
    method = torch.optim.Adam(network.parameters(), params["rate"])
    if HOLD:
        note(begin=begin, holds=HOLD)
    first = None
    for _ in range(STEPS):
        method.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(images), labels)
        loss.backward()
        method.step()
        if first is None:
            loss.item()
            first = time.time()
    value = loss.item()
    count = torch.cuda.device_count() if device.type == "cuda" else 0
    free = torch.cuda.mem_get_info()[0] / 2**30 if device.type == "cuda" else None
    note(begin=begin, imported=imported, first=first, end=time.time(), steps=STEPS, gpus=count, free_gib=free)
    del held
    return value


def with_jax(params: dict[str, Any], ctx: Any) -> float:
    """A layer by gradient descent."""
    begin = time.time()
    import jax
    import jax.numpy as jnp

    imported = time.time()
    one, other = jax.random.split(jax.random.key(ctx.seed))
    x, w = jax.random.normal(one, (512, 256)), jax.random.normal(other, (256, 256)) * 0.03

    @jax.jit
    def step(w: Any) -> Any:
        return w - params["rate"] * jax.grad(lambda w: jnp.mean(jnp.tanh(x @ w) ** 2))(w)

    w = step(w).block_until_ready()
    first = time.time()
    for _ in range(STEPS):
        w = step(w)
    w.block_until_ready()
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    note(
        begin=begin, imported=imported, first=first, end=time.time(), steps=STEPS, gpus=len(jax.devices()), limit=limit
    )
    return float(jnp.mean(jnp.abs(w)))


def with_keras(params: dict[str, Any], ctx: Any) -> float:
    """A network of Keras on the backend that KERAS_BACKEND names."""
    begin = time.time()
    import keras
    import numpy as np

    imported = time.time()
    keras.utils.set_random_seed(ctx.seed)
    random = np.random.default_rng(ctx.seed)
    x, y = random.standard_normal((256, 32)).astype("float32"), random.integers(0, 10, 256)
    network = keras.Sequential([keras.layers.Dense(64, "relu"), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile(keras.optimizers.Adam(params["rate"]), loss)
    found = network.fit(x, y, epochs=2, batch_size=64, verbose=0).history["loss"]
    note(begin=begin, imported=imported, first=time.time(), end=time.time(), steps=8, backend=keras.backend.backend())
    return float(found[-1])


class Prepared:
    """A problem whose prepare() does something with a framework before the trainings are forked.

    Args:
        train: The training.
        framework: What is imported.
        touch: What is done then: ``look`` for a GPU, or ``use`` one.
    """

    def __init__(self, train: Any, framework: str, touch: str) -> None:
        self.train, self.framework, self.touch = train, framework, touch

    def prepare(self) -> None:
        """Done in the server."""
        if self.framework == "torch":
            import torch

            there = torch.cuda.is_available()
            if self.touch == "use" and there:
                torch.zeros(1, device="cuda")
        else:
            import jax.numpy

            jax.numpy.ones(1).block_until_ready()

    def __call__(self, params: dict[str, Any], ctx: Any) -> float:
        """Train."""
        return float(self.train(params, ctx))


torch_that_looks = Prepared(with_torch, "torch", "look")
torch_that_uses = Prepared(with_torch, "torch", "use")
jax_that_uses = Prepared(with_jax, "jax", "use")

"""PyTorch: swarm run takes it as it is. python examples/digits_torch.py"""

from swarm import PSO, Integer, Job, Real, run


def train(params, ctx):
    import torch  # once per worker: trainings are forked from a process that has it
    from sklearn.datasets import load_digits

    torch.manual_seed(ctx.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"  # the slot's GPU is the only one that it sees
    images, labels = (torch.as_tensor(part, device=device) for part in load_digits(return_X_y=True))
    images = images.float() / 16
    hidden = torch.nn.Linear(64, params["units"])
    network = torch.nn.Sequential(hidden, torch.nn.ReLU(), torch.nn.Linear(params["units"], 10)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=params["rate"])
    for epoch in range(5):
        for batch in torch.randperm(1400).split(32):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(network(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (network(images[1400:]).argmax(1) == labels[1400:]).float().mean().item()
        ctx.report(epoch=epoch + 1, loss=loss.item(), val_accuracy=accuracy)
    return accuracy


if __name__ == "__main__":
    space = {"units": Integer(4, 64), "rate": Real(1e-4, 0.3, log=True, digits=1)}
    result = run(Job(name="torch", problem=train, space=space, optimizer=PSO(particles=4, generations=3), seed=7))
    if result.best:  # it is None if no training has succeeded
        print(f"{result.best.fitness:.3f}", result.best.params)
    print(result.counts)

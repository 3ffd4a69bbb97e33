"""Networks of the papers, one file each: the network, its search space, and the problem made of both."""

PROBLEMS: dict[str, str] = {
    "capsnet": "swarm.workers.models.capsnet:problem",
    "command": "swarm.workers.command:CommandProblem",
    "digits-cnn": "swarm.workers.models.digits_cnn:problem",
    "digits-mlp": "swarm.workers.models.digits_mlp:problem",
    "lenet": "swarm.workers.models.lenet_ga:problem",
    "lenet-time": "swarm.workers.models.lenet_time:problem",
    "lenet4": "swarm.workers.models.lenet4:problem",
    "lenet5": "swarm.workers.models.lenet5:problem",
    "mae-sampling": "swarm.workers.recurrent.sampling:problem",
    "nhop": "swarm.workers.models.nhop:problem",
    "p3b1": "swarm.workers.models.p3b1:problem",
    "recurrent": "swarm.workers.recurrent.keras_network:problem",
    "resnet20": "swarm.workers.models.resnet20:problem",
    "rpv": "swarm.workers.models.rpv:problem",
    "seq2seq": "swarm.workers.models.seq2seq:problem",
    "simplenet1": "swarm.workers.models.simplenet1:problem",
    "weights": "swarm.workers.recurrent.weights:WeightEvolution",
}
"""Problem by name, as "module:function"; the function takes its options."""

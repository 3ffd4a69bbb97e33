"""Networks of the papers, one file each: the network, its search space, and the problem made of both."""

PROBLEMS: dict[str, str] = {
    "capsnet": "workers.models.capsnet:problem",
    "command": "workers.command:CommandProblem",
    "digits-cnn": "workers.models.digits_cnn:problem",
    "lenet": "workers.models.lenet_ga:problem",
    "lenet-time": "workers.models.lenet_time:problem",
    "lenet4": "workers.models.lenet4:problem",
    "lenet5": "workers.models.lenet5:problem",
    "mae-sampling": "workers.recurrent.sampling:problem",
    "nhop": "workers.models.nhop:problem",
    "p3b1": "workers.models.p3b1:problem",
    "recurrent": "workers.recurrent.keras_network:problem",
    "resnet20": "workers.models.resnet20:problem",
    "rpv": "workers.models.rpv:problem",
    "seq2seq": "workers.models.seq2seq:problem",
    "simplenet1": "workers.models.simplenet1:problem",
    "weights": "workers.recurrent.weights:WeightEvolution",
}
"""Problem by name, as "module:function"; the function takes its options."""

"""Networks of the papers, one file each: the network, its search space, and the problem made of both."""

PROBLEMS: dict[str, str] = {
    "digits-cnn": "workers.models.digits_cnn:problem",
    "lenet4": "workers.models.lenet4:problem",
    "lenet5": "workers.models.lenet5:problem",
    "simplenet1": "workers.models.simplenet1:problem",
}
"""Problem by name, as "module:function"; the function takes the options of its :class:`KerasProblem`."""

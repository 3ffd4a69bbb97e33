"""What was measured, and the scripts that measure it, by the question that they answer.

papers      whether it does what the papers claim
peers       how it compares with other tools and methods
scale       how it scales
faults      what kills, hangs and drains cost
cost        what the service, its pages and a slice of a training cost
gpu         whether all of it works on a real GPU
shared      what the scripts share: a cluster, results, tables, figures
results     what they have found; summary.py writes README.md from it

Each script is called from the root, as ``python benchmarks/papers/pbt.py``; run_all.py calls all of them.
"""

"""Runs our deployment on the engines that this machine has: ``make engines``."""

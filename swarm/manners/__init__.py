"""Manners of a package in a process that is the user's."""

"""Versions, changelog, distributions and package recipes of a release."""

"""Loads the project's pytest plugins."""

pytest_plugins = ("harness.plugin",)

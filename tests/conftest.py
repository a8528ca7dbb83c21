"""Loads the project's pytest plugins."""

pytest_plugins = ("harness.planes", "harness.plugin")

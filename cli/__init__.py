"""The commands ``kr`` and ``kube-router``."""

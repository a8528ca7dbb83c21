"""kube-router: load balancer, firewall and router for a Kubernetes node, as an event-sourced microkernel.

The folders beside this file are links to the top-level folders of the repository; docs/architecture.md is the map.
"""

__version__ = "3.0.0.dev0"

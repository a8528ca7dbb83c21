"""A whole cluster in network namespaces on one machine: for the demo, the tests and plugin authors."""

"""The microkernel: folds events to state and runs the plugins on it. Plugin authors need only ``core.api``."""

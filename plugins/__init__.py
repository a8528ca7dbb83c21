"""The built-in plugins. Each owns one kernel subsystem and has the same rooms; none imports another."""

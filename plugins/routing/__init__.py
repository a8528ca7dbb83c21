"""Routing: every node a BGP router (README.md)."""

"""Bincard over HTTP and on the command line; reaches stock only through engine."""

"""The cold routes, one file for each noun."""

"""What the commands of `bincard` do; `api.cli` declares their options and imports them when called."""

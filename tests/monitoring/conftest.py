"""What tests of the command line start processes with, starts them here, too."""

from tests.cli.conftest import start

__all__ = ["start"]

"""Real shop baskets against a running server, with a proof of no oversell at the end."""

from api.replay.baskets import BasketsUnavailableError
from api.replay.report import ReplayReport, show, write_json
from api.replay.run import ReplayOptions, replay

__all__ = [
    "BasketsUnavailableError",
    "ReplayOptions",
    "ReplayReport",
    "replay",
    "show",
    "write_json",
]

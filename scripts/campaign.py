#!/usr/bin/env python3
"""Faults under load, round after round: `python3 scripts/campaign.py --rounds 3000 --seed 1`.

Each round starts servers, lets many callers fight for the last units with a quarter of all requests sent
twice, strikes with a fault or two, heals, lets every unknown outcome be repeated until it is known, and
then judges: the callers' histories, the ledger, every count. A round in which nothing was at stake, or
whose fault did not bite, is vacuous and does not count. All choices come from the seed.

This file only makes `.venv` ready; the campaign is `tests/faults/campaign`, which the tests play, too.
`--help` lists the options, docs/operating/faults.md the faults.
"""

from __future__ import annotations

import sys

from _bootstrap import become

if __name__ == "__main__":
    become("tests.faults.campaign", sys.argv[1:])

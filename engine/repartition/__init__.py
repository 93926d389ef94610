"""Moving a data set to another number of partitions. See docs/operating/repartition.md."""

from engine.repartition.moving import Repartitioned, repartition

__all__ = ["Repartitioned", "repartition"]

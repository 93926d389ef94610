"""Every key of a data set. Nothing else in the code spells one.

A partition is a hash tag: all keys of one partition, and no others, carry `{p}`, so they live in one
cluster slot and one script may touch any of them. No text of a caller's is part of a key.

| key | type | holds |
| --- | --- | --- |
| `inv:{0}:dataset` | hash | what is fixed when the data set is made: format, partitions, secret |
| `inv:{p}:meta` | hash | `epoch`, `seq`: the version; `dataset`, `run`: see `lua/take_over.lua`; `settings` |
| `inv:{p}:ops` | hash | operation id (12 bytes) → reservation record, or memory of an operation |
| `inv:{p}:due` | zset | when (ms) → ids of holds to give back, memories to forget, baskets to repair |
| `inv:{p}:log` | stream | the ledger: id `epoch-seq` of the entry's last event, field `e` |
| `inv:{p}:stock` | hash | SKU → its card: counters of its positions, and who holds claims on them |
| | | line feed, location, `=`, SKU → fences of the position |
| `inv:{p}:wanted` | hash | line feed, location, `=`, SKU → since when the position is to be counted, in ms |
| `inv:{p}:locations`, `pools`, `channels`, `items`, `keys` | hash | id → settings; everywhere the same |
| `inv:{p}:named` | hash | class, line feed, id → who names it: ids, each with a line feed behind it |
| `inv:{p}:changes` | zset | class, line feed, id → the number of settings with which it changed last |
| `inv:{p}:stocked` | hash | location id → how many positions are there |
| `inv:{p}:moves` | zset | the physical history of all positions: see `lua/lib/batch.lua` |
| `inv:{p}:counts` | hash | SKU and place → the newest count: see `lua/lib/facts.lua` |
| `inv:{p}:conditions` | hash | SKU and place → units by condition: see `lua/lib/facts.lua` |
| `inv:{p}:fenced` | hash | channel id → how many fences it has |
| `inv:{p}:defaults` | hash | class, line feed, id → what it says of positions: see `lua/lib/defaults.lua` |
| `inv:{p}:inheriting` | zset | number, line feed, class, line feed, id: changes of defaults to follow |
| `inv:{p}:find` | zset | reservations by what they are found by, made from the ledger: `engine/index.py` |
| `inv:{p}:found` | hash | `cursor`: the last event of the ledger that `find` knows |
| `inv:{p}:inbound` | hash | place and SKU → what is expected there: see `lua/supply.lua` |
| `inv:{p}:documents` | hash | document id (12 bytes) → a transfer or an inbound order, packed |
| `inv:{p}:listed` | zset | documents by what they are listed by: `engine/document_lists.py` |
| `inv:{p}:ended` | zset | when (ms) → ids of documents that are over: see `lua/forget_document.lua` |
"""

from zlib import crc32

PREFIX = "inv:{"


def route_of(sku: str) -> int:
    """Where a SKU belongs in a data set of any size: a stable hash of 16 bits, the same in every release."""
    return crc32(sku.encode()) & 0xFFFF


def partition_of(sku: str, partitions: int) -> int:
    """The partition that a SKU's stock lives in."""
    return route_of(sku) % partitions if partitions > 1 else 0


def dataset() -> str:
    return "inv:{0}:dataset"


def meta(partition: int) -> str:
    return f"inv:{{{partition}}}:meta"


def operations(partition: int) -> str:
    return f"inv:{{{partition}}}:ops"


def due(partition: int) -> str:
    return f"inv:{{{partition}}}:due"


def log(partition: int) -> str:
    return f"inv:{{{partition}}}:log"


def stock(partition: int) -> str:
    return f"inv:{{{partition}}}:stock"


def wanted(partition: int) -> str:
    return f"inv:{{{partition}}}:wanted"


def locations(partition: int) -> str:
    return f"inv:{{{partition}}}:locations"


def pools(partition: int) -> str:
    return f"inv:{{{partition}}}:pools"


def channels(partition: int) -> str:
    return f"inv:{{{partition}}}:channels"


def items(partition: int) -> str:
    return f"inv:{{{partition}}}:items"


def api_keys(partition: int) -> str:
    return f"inv:{{{partition}}}:keys"


def named(partition: int) -> str:
    return f"inv:{{{partition}}}:named"


def changes(partition: int) -> str:
    return f"inv:{{{partition}}}:changes"


def stocked(partition: int) -> str:
    return f"inv:{{{partition}}}:stocked"


def moves(partition: int) -> str:
    return f"inv:{{{partition}}}:moves"


def counts(partition: int) -> str:
    return f"inv:{{{partition}}}:counts"


def conditions(partition: int) -> str:
    return f"inv:{{{partition}}}:conditions"


def fenced(partition: int) -> str:
    return f"inv:{{{partition}}}:fenced"


def defaults(partition: int) -> str:
    return f"inv:{{{partition}}}:defaults"


def inheriting(partition: int) -> str:
    return f"inv:{{{partition}}}:inheriting"


def find(partition: int) -> str:
    return f"inv:{{{partition}}}:find"


def found(partition: int) -> str:
    return f"inv:{{{partition}}}:found"


def inbound(partition: int) -> str:
    return f"inv:{{{partition}}}:inbound"


def documents(partition: int) -> str:
    return f"inv:{{{partition}}}:documents"


def listed(partition: int) -> str:
    return f"inv:{{{partition}}}:listed"


def ended(partition: int) -> str:
    return f"inv:{{{partition}}}:ended"

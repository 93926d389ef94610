"""Reads documents of every kind."""

from collections.abc import Callable

import msgspec

from engine.documents import Document
from engine.supply import InboundDocument
from engine.transfers import TransferDocument

decode_document: Callable[[bytes], Document] = msgspec.msgpack.Decoder(
    TransferDocument | InboundDocument
).decode

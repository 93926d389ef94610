"""Every operation of the HTTP surface, as the OpenAPI document tells of it."""

from api.operations.availability import AVAILABILITY
from api.operations.model import Operation
from api.operations.reservations import RESERVATIONS
from api.operations.service import SERVICE
from api.operations.settings import SETTINGS
from api.operations.stock import STOCK

OPERATIONS: tuple[Operation, ...] = (*AVAILABILITY, *RESERVATIONS, *STOCK, *SETTINGS, *SERVICE)

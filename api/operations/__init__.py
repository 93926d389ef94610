"""Every operation of the HTTP surface, as the OpenAPI document tells of it."""

from api.operations.availability import AVAILABILITY
from api.operations.changes import CHANGES
from api.operations.keys import KEYS
from api.operations.model import Operation
from api.operations.policies import POLICIES
from api.operations.reservations import RESERVATIONS
from api.operations.service import SERVICE
from api.operations.settings import SETTINGS
from api.operations.stock import STOCK
from api.operations.supply import SUPPLY

OPERATIONS: tuple[Operation, ...] = (
    *AVAILABILITY,
    *RESERVATIONS,
    *CHANGES,
    *STOCK,
    *POLICIES,
    *SUPPLY,
    *SETTINGS,
    *KEYS,
    *SERVICE,
)

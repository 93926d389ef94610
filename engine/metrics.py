"""What the engine counts. Plain integers, added up where the work is done and read at scrape time."""

from bisect import bisect_left

from engine.outcomes import Outcome

CALL_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128)
"""Upper bounds of the histogram of requests in one script call."""


DURATION_BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
)
"""Upper bounds in seconds."""
MOST_CHANNELS, MOST_LOCATIONS = 20, 100
"""Names that get a label of their own."""
OTHER, NONE = "other", "none"


class Durations:
    """A histogram of seconds; the last count has no bound."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(DURATION_BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """Notes that something took so long."""
        self.counts[bisect_left(DURATION_BUCKETS, seconds)] += 1
        self.seconds += seconds


class Labels:
    """Keeps labels few: the names that come first keep theirs, all further ones share one."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        self._known: set[str] = set()
        self._most = most

    def of(self, name: str | None) -> str:
        """The label of a name; no name has one, too."""
        if not name:
            return NONE
        if name not in self._known:
            if len(self._known) >= self._most:
                return OTHER
            self._known.add(name)
        return name


class LaneMetrics:
    """How well requests gather into script calls, and how long these take."""

    __slots__ = ("call_counts", "calls", "confirmations", "durations", "requests", "stalls", "unconfirmed")

    def __init__(self) -> None:
        self.durations: dict[str, Durations] = {}
        """By verb, from writing a call to its answer."""
        self.confirmations = Durations()
        """How long turns waited for replicas."""
        self.unconfirmed = 0
        """How many turns too few replicas confirmed."""
        self.calls = 0
        self.requests = 0
        self.stalls = 0
        """How often a server stopped to answer."""
        self.call_counts = [0] * len(CALL_BUCKETS)

    def call_requests(self, count: int) -> None:
        """Notes a call that carries so many requests."""
        self.calls += 1
        self.requests += count
        self.call_counts[min((count - 1).bit_length(), len(CALL_BUCKETS) - 1)] += 1

    def call_took(self, verb: str, seconds: float) -> None:
        """Notes the answer to a call."""
        found = self.durations.get(verb)
        if found is None:
            found = self.durations[verb] = Durations()
        found.observe(seconds)


class EngineMetrics:
    """Operations by verb and outcome, demand that was lost, and the lane's figures."""

    __slots__ = ("_channels", "lane", "lost_units", "operations")

    def __init__(self) -> None:
        self.lane = LaneMetrics()
        self.lost_units: dict[str, int] = {}
        """Units that were refused for want of stock, by channel."""
        self._channels = Labels(MOST_CHANNELS)
        self.operations: dict[tuple[str, Outcome], int] = {}

    def count(self, verb: str, outcome: Outcome, units: int = 1) -> None:
        """Notes operations of a verb that ended with an outcome."""
        key = (verb, outcome)
        self.operations[key] = self.operations.get(key, 0) + units

    def lose(self, channel: str | None, units: int) -> None:
        """Notes units that somebody asked for and that were not there."""
        label = self._channels.of(channel)
        self.lost_units[label] = self.lost_units.get(label, 0) + units

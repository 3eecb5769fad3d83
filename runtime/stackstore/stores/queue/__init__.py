"""The write queue of the stores: bounded, durable if wanted, and exactly once."""

from stackstore.stores.queue.ending import Remains
from stackstore.stores.queue.queue import WriteQueue
from stackstore.stores.queue.records import Entry, Identity, Mark, Record
from stackstore.stores.queue.sink import Sink
from stackstore.stores.queue.stats import Distribution, QueueStats
from stackstore.stores.queue.table_sink import TableSink

__all__ = [
    "Distribution",
    "Entry",
    "Identity",
    "Mark",
    "QueueStats",
    "Record",
    "Remains",
    "Sink",
    "TableSink",
    "WriteQueue",
]

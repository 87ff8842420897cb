"""The Kafka clients of every service. Only this package imports aiokafka.

`Producer` publishes, and ends with its first failure. `Consumer` reads as a member of a group, tracks what the caller
was handed and commits as the member it was. `read_range` reads a piece of a partition again. `Admin` makes and
describes topics. Every error that leaves this package is one of `shared.errors`; no `KafkaError` does.
"""

from shared.kafka.admin import Admin, TopicDescription, TopicSpec
from shared.kafka.commit import Epoch
from shared.kafka.connection import MAX_RECORD_BYTES, Record, TopicPartition
from shared.kafka.consumer import Consumer
from shared.kafka.errors import OffsetsLost, OwnershipLost, ProducerFailed
from shared.kafka.places import Lag
from shared.kafka.producer import Producer, partition_for
from shared.kafka.reader import read_range

__all__ = [
    "MAX_RECORD_BYTES",
    "Admin",
    "Consumer",
    "Epoch",
    "Lag",
    "OffsetsLost",
    "OwnershipLost",
    "Producer",
    "ProducerFailed",
    "Record",
    "TopicDescription",
    "TopicPartition",
    "TopicSpec",
    "partition_for",
    "read_range",
]

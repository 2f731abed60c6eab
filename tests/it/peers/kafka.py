"""librdkafka's own mock cluster, and a consumer of librdkafka's against it.

Prints the cluster's address, then a JSON line for every record of the topic until standard input ends, or a
minute and a half are over.
"""
import json
import select
import sys
import time

from confluent_kafka import Consumer, Producer, TopicPartition

TOPIC, PARTITIONS = "batches", 4
# Kept: the cluster ends with the client that carries it.
cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
metadata = cluster.list_topics(TOPIC, timeout=20)
address = ",".join(f"{b.host}:{b.port}" for b in metadata.brokers.values())
print(address, flush=True)
consumer = Consumer({"bootstrap.servers": address, "group.id": "test"})
consumer.assign([TopicPartition(TOPIC, p, 0) for p in metadata.topics[TOPIC].partitions])
end = time.monotonic() + 90
while time.monotonic() < end:
    record = consumer.poll(0.1)
    if record is None:
        if select.select([sys.stdin], [], [], 0)[0] and not sys.stdin.readline():
            break
        continue
    if record.error():
        continue
    print(json.dumps({
        "key": record.key().decode(),
        "partition": record.partition(),
        "headers": {name: value.decode() for name, value in record.headers()},
        "value": record.value().hex(),
    }), flush=True)

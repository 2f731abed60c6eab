"""librdkafka's own mock cluster, and a consumer of librdkafka's against it.

Prints the cluster's address, then a JSON line for every record of the topic until standard input ends, or a
minute and a half are over. Given a certificate chain and its key, the address is that of a door with TLS in front
of each broker: the cluster itself speaks none. Such a door puts the doors' addresses into the cluster's answers in
the place of the brokers' own; both names have nine letters, so nothing else in them moves.
"""
import asyncio
import json
import select
import ssl
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

TOPIC, PARTITIONS = "batches", 4


async def doors(ports, chain, key, ready):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    moved = {}

    async def pass_on(reader, writer, port):
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)

        async def up():
            while some := await reader.read(65536):
                far_writer.write(some)
                await far_writer.drain()
            far_writer.close()

        async def down():
            while True:
                head = await far_reader.readexactly(4)
                answer = await far_reader.readexactly(int.from_bytes(head, "big"))
                for own, door in moved.items():
                    answer = answer.replace(own, door)
                writer.write(head + answer)
                await writer.drain()

        await asyncio.gather(up(), down(), return_exceptions=True)
        writer.close()

    servers = []
    for port in ports:
        def serve(reader, writer, port=port):
            return pass_on(reader, writer, port)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        door = server.sockets[0].getsockname()[1]
        moved[b"127.0.0.1" + port.to_bytes(4, "big")] = b"localhost" + door.to_bytes(4, "big")
        servers.append((server, door))
    ready.append(",".join(f"localhost:{door}" for _, door in servers))
    await asyncio.gather(*(server.serve_forever() for server, _ in servers))


# Kept: the cluster ends with the client that carries it.
cluster = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 3})
metadata = cluster.list_topics(TOPIC, timeout=20)
address = ",".join(f"{b.host}:{b.port}" for b in metadata.brokers.values())
if len(sys.argv) > 1:
    ready = []
    ports = [broker.port for broker in metadata.brokers.values()]
    run = lambda: asyncio.run(doors(ports, sys.argv[1], sys.argv[2], ready))
    threading.Thread(target=run, daemon=True).start()
    while not ready:
        time.sleep(0.01)
    print(ready[0], flush=True)
else:
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

"""A CoAP server on aiocoap with resources to poll and to observe.

Usage: coap_server.py PORT
  /temp     text, counts up with every GET
  /count    text, observable, counts up every 50 ms
  /pack     SenML JSON of 200 records, so that it takes several blocks
  /cbor     SenML CBOR
"""
import asyncio
import json
import sys

import aiocoap
import cbor2
from aiocoap import resource


class Temp(resource.Resource):
    reads = 0

    async def render_get(self, request):
        self.reads += 1
        return aiocoap.Message(payload=str(20 + self.reads / 10).encode(), content_format=0)


class Count(resource.ObservableResource):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.task = asyncio.get_event_loop().create_task(self.tick())

    async def tick(self):
        while True:
            await asyncio.sleep(0.05)
            self.count += 1
            self.updated_state()

    async def render_get(self, request):
        return aiocoap.Message(payload=str(self.count).encode(), content_format=0)


class Fixed(resource.Resource):
    def __init__(self, payload, content_format):
        super().__init__()
        self.payload, self.format = payload, content_format

    async def render_get(self, request):
        return aiocoap.Message(payload=self.payload, content_format=self.format)


async def main():
    records = [{"n": f"p{i}", "u": "V", "v": i / 10} for i in range(200)]
    pack = json.dumps([{"bn": "rack:"}] + records).encode()
    small = cbor2.dumps([{-2: "tank:", 0: "level", 1: "m", 2: 1.25}, {0: "open", 4: True}])
    site = resource.Site()
    site.add_resource(["temp"], Temp())
    site.add_resource(["count"], Count())
    site.add_resource(["pack"], Fixed(pack, 110))
    site.add_resource(["cbor"], Fixed(small, 112))
    await aiocoap.Context.create_server_context(site, bind=("127.0.0.1", int(sys.argv[1])))
    await asyncio.get_running_loop().create_future()


asyncio.run(main())

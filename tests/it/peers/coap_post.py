"""Posts with aiocoap and prints one line an answer: its code.

Usage: coap_post.py PORT
Posts, to /room on 127.0.0.1: SenML JSON, the same in SenML CBOR, a SenML JSON pack of 300 records
in blocks, a broken pack, and a GET.
"""
import asyncio
import json
import sys

import aiocoap
import cbor2


async def main():
    port = int(sys.argv[1])
    client = await aiocoap.Context.create_client_context()

    async def send(code, payload=b"", content_format=None):
        message = aiocoap.Message(
            code=code,
            uri=f"coap://127.0.0.1:{port}/room",
            payload=payload,
            content_format=content_format,
        )
        answer = await client.request(message).response
        print(answer.code.dotted, flush=True)

    pack = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1700000000, "n": "temp", "u": "Cel", "v": 23.1},
        {"n": "open", "vb": False},
        {"n": "label", "vs": "Machine Room"},
    ]
    cbor = [{-2: pack[0]["bn"], -3: 1700000000, 0: "temp", 1: "Cel", 2: 23.1}, {0: "open", 4: False},
            {0: "label", 3: "Machine Room"}]
    many = [{"bn": "x:"}] + [{"n": f"p{i}", "t": -i, "v": i} for i in range(300)]
    await send(aiocoap.POST, json.dumps(pack).encode(), 110)
    await send(aiocoap.POST, cbor2.dumps(cbor), 112)
    await send(aiocoap.POST, json.dumps(many).encode(), 110)
    await send(aiocoap.POST, b"[{", 110)
    await send(aiocoap.GET)


asyncio.run(main())

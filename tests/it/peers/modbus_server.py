"""A pymodbus server with known registers, for the Modbus tests.

usage: modbus_server.py PORT tcp|rtu [LATE_MS]

Units 1 and 2. Holding and input register n, 0 to 63, holds 1000 * unit + n; holding 100 and 101
hold 21.1 as binary32, holding 104 to 106 "PUMP-7", input 100 holds 0xFFFE; coils and discrete
inputs 0 to 31 are set at every third address. Everything else is an illegal address. `rtu` means
RTU frames on a TCP port. With LATE_MS, every third answer of unit 2 is that late.
"""

import asyncio
import struct
import sys

from pymodbus import FramerType
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice


def registers(address, values):
    return SimData(address, values=list(values), datatype=DataType.REGISTERS)


def unit(number, late_ms):
    asked = 0

    async def action(function, start, address, count, current, values):
        nonlocal asked
        asked += 1
        if late_ms and number == 2 and asked % 3 == 0:
            await asyncio.sleep(late_ms / 1000)

    own = registers(0, (1000 * number + n for n in range(64)))
    third = [n % 3 == 0 for n in range(32)]
    holding = [
        own,
        registers(100, struct.unpack(">HH", struct.pack(">f", 21.1))),
        registers(104, struct.unpack(">HHH", b"PUMP-7")),
    ]
    bits = [SimData(0, values=third, datatype=DataType.BITS)]
    return SimDevice(
        number, simdata=(bits, bits, holding, [own, registers(100, [0xFFFE])]), action=action
    )


async def main():
    port, kind = int(sys.argv[1]), sys.argv[2]
    late_ms = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    framer = FramerType.RTU if kind == "rtu" else FramerType.SOCKET
    units = [unit(1, late_ms), unit(2, late_ms)]
    server = ModbusTcpServer(units, framer=framer, address=("127.0.0.1", port))
    await server.serve_forever()


asyncio.run(main())

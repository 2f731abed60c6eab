"""Modbus devices on a line of their own, for the tests of the first hour.

usage: line_device.py LINK UNITS [--line BAUD[,2][,O]] [--echo] [--noise] [--die-after N] [--late MS]
       [--tcp PORT [--absent MS] [--nobody CODE] [--closes] [--banner TEXT]]

Makes a pseudo-terminal, links LINK to it, and answers there as pymodbus does, but only while the
other side has set it to the wanted speed, two stop bits (",2") or odd parity (",O"); at any other
speed the devices hear noise and are silent. UNITS is a list as 1=sdm630,5=trs02a,9=plain. --echo
gives every request back first, --noise adds bytes of no meaning to every answer, --die-after N closes
the line after N requests, --late waits so long before every answer. With --tcp PORT it is a Modbus TCP
gateway with these units behind it, or a device that answers to every id (UNITS "any=plain"); --absent
waits so long before it says that nobody has an id, --nobody is the exception it says so with, --closes ends the connection after each answer, and
with --banner something else than Modbus listens there.
"""

import argparse
import fcntl
import os
import pty
import struct
import sys
import termios
import time
import tty

from pymodbus.pdu import DecodePDU
from pymodbus.framer import FramerRTU, FramerSocket

TCGETS2 = 0x802C542A


def floats(start, values):
    words = {}
    for n, value in values.items():
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        words[start + n], words[start + n + 1] = high, low
    return words


def unit(kind, number):
    """Returns the holding and input registers of a unit."""
    if kind == "sdm630":
        inputs = {n: 0 for n in range(0, 400)}
        inputs |= floats(0, {0: 231.4, 2: 230.9, 4: 232.0, 6: 3.21, 12: 742.8, 30: 0.98, 52: 742.8})
        inputs |= floats(0, {70: 50.02, 72: 8412.06, 200: 400.3, 342: 8412.06})
        return {}, inputs
    if kind == "trs02a":
        return {1: 215, 2: 0, 32: number}, {}
    if kind == "sunspec":
        holding = {n: 0 for n in range(39990, 40200)}
        holding |= {40000: 0x5375, 40001: 0x6E53, 40069: 113}
        return holding | floats(40071, {0: 12.5}), {}
    return {n: 1000 * number + n for n in range(64)} | floats(100, {0: 230.5}), {}


class Units:
    def __init__(self, text):
        self.units = {}
        for part in text.split(","):
            number, kind = part.split("=")
            self.any = number == "any"
            number = 1 if self.any else int(number)
            self.units[number] = unit(kind, number)

    def answer(self, number, function, address, count):
        """Returns the PDU, or None for silence."""
        if number not in self.units and not self.any:
            return None
        holding, inputs = self.units[1 if self.any else number]
        table = {3: holding, 4: inputs}.get(function)
        if table is None:
            return bytes([function | 0x80, 1])
        words = [table.get(address + n) for n in range(count)]
        if any(word is None for word in words) or count > 80:
            return bytes([function | 0x80, 2])
        return bytes([function, 2 * count]) + b"".join(struct.pack(">H", word) for word in words)


def line_fits(fd, wanted):
    baud, *rest = wanted.split(",")
    # struct termios2: four flags, a line discipline, 19 characters, input and output speed.
    _, _, flags, *_, speed = struct.unpack("4I20s2I", fcntl.ioctl(fd, TCGETS2, bytes(44)))
    is_speed = speed == int(baud)
    two = bool(flags & termios.CSTOPB) == ("2" in rest)
    odd = bool(flags & termios.PARODD) == ("O" in rest)
    return is_speed and two and odd


def serve_line(args, units):
    master, slave = pty.openpty()
    tty.setraw(slave)
    name = os.ttyname(slave)
    # A real device does not hold the node open, and who does is told of it.
    os.close(slave)
    draft = f"{args.link}.draft"
    os.symlink(name, draft)
    os.replace(draft, args.link)
    heard, asked = b"", 0
    # pymodbus checks every frame that is answered; its framer is the judge.
    framer = FramerRTU(DecodePDU(True))
    while True:
        try:
            heard += os.read(master, 256)
        except OSError:
            # Nobody has the other end open just now.
            heard = b""
            time.sleep(0.002)
            continue
        while len(heard) >= 8:
            frame, heard = heard[:8], heard[8:]
            if args.line and not line_fits(master, args.line):
                continue
            used, number, _, pdu = framer.decode(frame)
            if not used or not pdu:
                continue
            asked += 1
            if args.die_after and asked > args.die_after:
                os.unlink(args.link)
                sys.exit(0)
            function, address, count = struct.unpack(">BHH", pdu)
            reply = units.answer(number, function, address, count)
            time.sleep(args.late / 1000)
            if args.echo:
                os.write(master, frame)
            if reply is not None:
                body = framer.encode(reply, number, 0)
                os.write(master, b"\xa5\x5a" + body[2:] if args.noise else body)


def serve_tcp(args, units):
    import socketserver

    class Gateway(socketserver.BaseRequestHandler):
        def handle(self):
            if args.banner:
                self.request.sendall(args.banner.encode() + b"\r\n")
            while True:
                head = self.request.recv(12, 0x100)
                if len(head) < 12:
                    return
                if args.banner:
                    continue
                transaction, _, _, number, function, address, count = struct.unpack(">HHHBBHH", head)
                reply = units.answer(number, function, address, count)
                time.sleep((args.late if reply else args.absent) / 1000)
                # Nobody behind this id: what a gateway says.
                reply = reply or bytes([function | 0x80, args.nobody])
                head = struct.pack(">HHHB", transaction, 0, len(reply) + 1, number)
                self.request.sendall(head + reply)
                if args.closes:
                    return

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True

    Server(("127.0.0.1", args.tcp), Gateway).serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("link")
parser.add_argument("units")
parser.add_argument("--line")
parser.add_argument("--echo", action="store_true")
parser.add_argument("--noise", action="store_true")
parser.add_argument("--die-after", type=int, default=0)
parser.add_argument("--late", type=int, default=0)
parser.add_argument("--tcp", type=int, default=0)
parser.add_argument("--absent", type=int, default=0)
parser.add_argument("--nobody", type=int, default=0x0B)
parser.add_argument("--closes", action="store_true")
parser.add_argument("--banner")
arguments = parser.parse_args()
if arguments.tcp:
    serve_tcp(arguments, Units(arguments.units))
else:
    serve_line(arguments, Units(arguments.units))

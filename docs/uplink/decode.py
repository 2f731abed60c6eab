#!/usr/bin/env python3
"""Reads fieldgate batches (batch-v1.md). Needs the package msgpack; zstandard for z = 2 only.

decode.py FILE            prints one JSON reading a line ("-" reads standard input)
decode.py --check FOLDER  holds this decoder against the vectors of a folder
"""
import collections, datetime, json, math, pathlib, sys, zlib
import check, msgpack

INFLATED_MAX, READINGS_MAX, WORDS_MAX, PARTS_MAX = 64 << 20, 1_000_000, 200_000, 100_000
RAW, WORD, BOOL, NO_VALUE, EXACT = -2, -3, -1, 32, 1 << 53

def need(truth, why):
    if not truth:
        raise ValueError(why)

def unpack(data):
    return msgpack.unpackb(data, strict_map_key=False, max_array_len=READINGS_MAX)

def inflate(z, data):
    need(z in (1, 2), f"unknown body coding {z}")
    if z == 1:
        coder, bites = zlib.decompressobj(), [data]
    else:  # in small bites, so that a bomb is noticed in time
        import zstandard
        coder = zstandard.ZstdDecompressor(max_window_size=INFLATED_MAX).decompressobj()
        bites = [data[at:at + 1024] for at in range(0, len(data), 1024)]
    body = b""
    for bite in bites:
        body += coder.decompress(bite, INFLATED_MAX + 1) if z == 1 else coder.decompress(bite)
        need(len(body) <= INFLATED_MAX, "the body is too large")
    need(coder.eof, "the body is cut short")
    return unpack(body)

def total(kind, last, n, words):
    need(type(n) is int, "a difference is no integer")
    n += last
    need(0 <= n < len(words) if kind == WORD else abs(n) < EXACT, "a value is out of range")
    return n

def grid(frame, t, kinds, words):
    _, steps, ids, columns, *marks = frame[:5]
    need(len(ids) == len(columns) and len(steps) * len(ids) <= READINGS_MAX, "columns")
    marks = {(column, row): q for column, row, q in (marks[0] if marks else ())}
    need(all(0 <= c < len(ids) and 0 <= r < len(steps) for c, r in marks), "a mark is out of range")
    times, step = [], 0
    for row, n in enumerate(steps):
        step = n if row < 2 else step + n  # the third and later: differences of differences
        t += step
        need(abs(t) < EXACT, "a time is out of range")
        times.append(t)
    for column, (i, cells) in enumerate(zip(ids, columns)):
        if kinds[i] is not None:
            need(len(cells) <= len(times) and (cells or not times), "a column of a wrong length")
        last = 0
        for row, t in enumerate(times):
            if kinds[i] is not None and row < len(cells):  # a missing tail repeats the last value
                last = cells[row] if kinds[i] == RAW else total(kinds[i], last, cells[row], words)
            yield i, t, last, marks.get((column, row), 0)

def events(frame, t, kinds, words):
    _, steps, ids, values, *marks = frame[:5]
    need(len(steps) == len(ids) == len(values), "lists of different lengths")
    marks, last = dict(marks[0] if marks else ()), collections.defaultdict(int)
    need(all(0 <= row < len(ids) for row in marks), "a mark is out of range")
    for row, (step, i, n) in enumerate(zip(steps, ids, values)):
        t += step
        need(abs(t) < EXACT, "a time is out of range")
        if kinds[i] not in (None, RAW):
            n = last[i] = total(kinds[i], last[i], n, words)
        yield i, t, n, marks.get(row, 0)

def value(kind, n, words, q):
    if q >= NO_VALUE or kind == RAW and type(n) is float and not math.isfinite(n):
        return None
    if kind in (RAW, 0):
        return n
    return n != 0 if kind == BOOL else words[n] if kind == WORD else n / 10 ** kind

def decode(payload):
    """Returns header, readings (device, point, unit, t, value, q), unknown frames and readings.
    Raises an Exception, of whatever class, when the payload is not a whole batch of version 1."""
    h = unpack(payload)
    need(h["v"] == 1, f"version {h['v']}")
    need(isinstance(h["gw"], str) and h["seq"] > 0 <= h["ep"] and type(h["t0"]) is int, "envelope")
    body = h.pop("b")
    if h.setdefault("z", 0):
        body = inflate(h["z"], body)
    words, series, frames = (body.get(key, []) for key in "wsf")
    need(len(words) <= WORDS_MAX and max(len(series), len(frames)) <= PARTS_MAX, "too large")
    need(all(isinstance(word, str) for word in words) and all(min(row[:3]) >= 0 for row in series), "w")
    names = [[words[n] for n in row[:3]] for row in series]
    kinds = [row[3] if -3 <= row[3] <= 9 else None for row in series]
    readings, unknown_frames, unknown = [], 0, 0
    for frame in frames:
        read = {0: grid, 1: events}.get(frame[0] if isinstance(frame, list) and frame else None)
        if read is None:
            unknown_frames += 1
            continue
        need(all(i >= 0 for i in frame[2]), "an id is out of range")
        for i, t, n, q in read(frame, h["t0"], kinds, words):
            if kinds[i] is None:
                unknown += 1
            else:
                readings.append((*names[i], t, value(kinds[i], n, words, q), q))
            need(len(readings) + unknown <= READINGS_MAX, "too many readings")
    need(unknown_frames or len(readings) + unknown == h["n"], "the count is wrong")
    return h, readings, unknown_frames, unknown

def lines(h, readings):
    key = f"{h['gw']}/{h['ep']}/{h.get('st', 'data')}/{h['seq']}"
    for device, point, unit, t, v, q in readings:
        at = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=t)
        one = dict(gw=h["gw"], device=device, point=point, t=at.isoformat(timespec="milliseconds") + "Z",
                   value=v, unit=unit, q=q, key=key)
        yield json.dumps(one, ensure_ascii=False, separators=(",", ":"))

if __name__ == "__main__":
    if sys.argv[1] == "--check":
        sys.exit(check.run(pathlib.Path(sys.argv[2]), decode))
    source = sys.stdin.buffer if sys.argv[1] == "-" else open(sys.argv[1], "rb")
    sys.stdout.writelines(line + "\n" for line in lines(*decode(source.read())[:2]))

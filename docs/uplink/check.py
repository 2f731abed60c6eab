"""Holds a decoder against a folder of vectors: what decodes, and under invalid/ what must not."""
import json

def summary(readings):
    """Returns a row a series: names, readings, those without a value, first and last t, sum."""
    rows = {}
    for device, point, unit, t, value, _ in readings:
        row = rows.setdefault((device, point, unit), [device, point, unit, 0, 0, t, t, 0.0])
        row[3] += 1
        row[4] += value is None
        row[6] = t
        row[7] += 0 if value is None else value
    return list(rows.values())

def same(found, expected):
    if isinstance(found, (list, tuple)) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected and isinstance(found, bool) == isinstance(expected, bool)

def differences(expected, header, readings, unknown_frames, unknown_readings):
    if "series" in expected:
        pairs = [("series", summary(readings), expected["series"])]
    else:
        keys = ("device", "point", "unit", "t", "value", "q")
        pairs = [("readings", readings, [[r[key] for key in keys] for r in expected["readings"]])]
    pairs += [("header", header, expected["header"]),
              ("unknown_frames", unknown_frames, expected["unknown_frames"]),
              ("unknown_readings", unknown_readings, expected.get("unknown_readings", 0))]
    return [name for name, found, wanted in pairs if not same(found, wanted)]

def run(folder, decode):
    read = failed = skipped = 0
    for path in sorted(folder.glob("**/*.msgpack")):
        invalid = path.parent.name == "invalid"
        try:
            found = decode(path.read_bytes())
            wrong = ["taken"] if invalid else differences(
                json.loads(path.with_suffix(".json").read_text("utf-8")), *found)
        except ImportError:
            skipped += 1
            continue
        except Exception as why:
            wrong = [] if invalid else [f"refused: {why!r}"]
        read += 1
        if wrong:
            failed += 1
            print(f"{path}: {', '.join(wrong)}")
    print(f"{read} vectors read" + (f", {skipped} skipped (no zstd here)" if skipped else ""))
    return 1 if failed or not read else 0

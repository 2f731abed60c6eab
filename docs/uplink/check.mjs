// Holds a decoder against a folder of vectors: what decodes, and under invalid/ what must not.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDeepStrictEqual } from "node:util";

/** Returns a row a series: names, readings, those without a value, first and last t, sum. */
function summary(readings) {
  const rows = new Map();
  for (const [device, point, unit, t, value] of readings) {
    const key = JSON.stringify([device, point, unit]);
    if (!rows.has(key)) rows.set(key, [device, point, unit, 0, 0, t, t, 0]);
    const row = rows.get(key);
    row[3] += 1;
    row[4] += value === null ? 1 : 0;
    row[6] = t;
    row[7] += Number(value);
  }
  return [...rows.values()];
}

function differences(expected, [header, readings, unknownFrames, unknownReadings]) {
  const keys = ["device", "point", "unit", "t", "value", "q"];
  const pairs = {
    header: [header, expected.header],
    unknown_frames: [unknownFrames, expected.unknown_frames],
    unknown_readings: [unknownReadings, expected.unknown_readings ?? 0],
    readings: expected.series
      ? [summary(readings), expected.series]
      : [readings, expected.readings.map((r) => keys.map((key) => r[key]))],
  };
  const plain = (value) => JSON.parse(JSON.stringify(value, (_, v) => (v instanceof Map ? Object.fromEntries(v) : v)));
  return Object.keys(pairs).filter((name) => !isDeepStrictEqual(plain(pairs[name][0]), plain(pairs[name][1])));
}

export function run(folder, decode) {
  let [read, failed, skipped] = [0, 0, 0];
  const invalid = readdirSync(join(folder, "invalid")).map((name) => join("invalid", name));
  for (const name of [...readdirSync(folder), ...invalid].filter((n) => n.endsWith(".msgpack")).sort()) {
    const path = join(folder, name);
    let wrong = [];
    try {
      const found = decode(readFileSync(path));
      if (name.startsWith("invalid")) wrong = ["taken"];
      else wrong = differences(JSON.parse(readFileSync(path.replace(/msgpack$/, "json"), "utf8")), found);
    } catch (why) {
      if (why.code === "NO_ZSTD") { skipped++; continue; }
      if (!name.startsWith("invalid")) wrong = [`refused: ${why.message}`];
    }
    read++;
    if (wrong.length) { failed++; console.log(`${path}: ${wrong.join(", ")}`); }
  }
  console.log(`${read} vectors read${skipped ? `, ${skipped} skipped (no zstd here)` : ""}`);
  return failed || !read ? 1 : 0;
}

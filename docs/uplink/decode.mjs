#!/usr/bin/env node
// Reads fieldgate batches (batch-v1.md) with Node 18 or later and nothing else.
//
// decode.mjs FILE            prints one JSON reading a line ("-" reads standard input)
// decode.mjs --check FOLDER  holds this decoder against the vectors of a folder
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import zlib from "node:zlib";
import { need, unpack } from "./msgpack.mjs";

const [INFLATED_MAX, READINGS_MAX, WORDS_MAX, PARTS_MAX] = [64 << 20, 1e6, 2e5, 1e5];
const [BOOL, RAW, WORD, NO_VALUE] = [-1, -2, -3, 32];
const count = (n) => (need(Number.isSafeInteger(n) && n >= 0, "an unsigned integer is missing"), n);

function inflate(z, data) {
  const inflater = { 1: zlib.inflateSync, 2: zlib.zstdDecompressSync }[z]; // zstd: Node 22.15 or later
  if (z === 2 && !inflater) throw Object.assign(new Error("z = 2 needs Node 22.15"), { code: "NO_ZSTD" });
  need(inflater, `unknown body coding ${z}`);
  return inflater(data, { maxOutputLength: INFLATED_MAX });
}

/** Adds a difference; differences may pass 2^53 where values do not. */
function total(kind, last, n, words) {
  need(Number.isInteger(n) || typeof n === "bigint", "a difference is no integer");
  const sum = typeof n === "bigint" ? Number(n + BigInt(last)) : n + last;
  need(kind === WORD ? sum >= 0 && sum < words.length : Number.isSafeInteger(sum), "a value is out of range");
  return sum;
}

function time(t) {
  need(Number.isSafeInteger(t), "a time is out of range");
  return t;
}

function* grid([, steps, ids, columns, list = []], t, kinds, words) {
  need(ids.length === columns.length && steps.length * ids.length <= READINGS_MAX, "columns");
  const marks = new Map(list.map(([c, r, q]) => (need(count(c) < ids.length && count(r) < steps.length, "marks"), [c * steps.length + r, q])));
  let step = 0;
  const times = steps.map((n, row) => time(t += step = row < 2 ? n : step + n)); // from the third: differences of differences
  for (const [column, i] of ids.entries()) {
    const [kind, cells] = [kinds[i], columns[column]];
    need(kind === null || (cells.length <= times.length && (cells.length || !times.length)), "a column of a wrong length");
    let last = 0;
    for (const [row, t] of times.entries()) {
      if (kind !== null && row < cells.length) last = kind === RAW ? cells[row] : total(kind, last, cells[row], words);
      yield [i, t, last, marks.get(column * times.length + row) ?? 0]; // a missing tail repeats the last value
    }
  }
}

function* events([, steps, ids, values, list = []], t, kinds, words) {
  need(steps.length === ids.length && ids.length === values.length, "lists of different lengths");
  const marks = new Map(list.map(([row, q]) => (need(count(row) < ids.length, "marks"), [row, q])));
  const last = new Map();
  for (const [row, i] of ids.entries()) {
    let n = values[row];
    t = time(t + steps[row]);
    if (kinds[i] !== null && kinds[i] !== RAW) last.set(i, (n = total(kinds[i], last.get(i) ?? 0, n, words)));
    yield [i, t, n, marks.get(row) ?? 0];
  }
}

function value(kind, n, words, q) {
  if (q >= NO_VALUE || (typeof n === "number" && !Number.isFinite(n))) return null;
  return kind === BOOL ? n !== 0 : kind === WORD ? words[n] : kind > 0 ? n / 10 ** kind : typeof n === "bigint" ? Number(n) : n;
}

/** Returns header, readings [device, point, unit, t, value, q], unknown frames and readings.
 * Throws when the payload is not a whole batch of version 1. */
export function decode(payload) {
  const h = Object.fromEntries(unpack(payload));
  need(h.v === 1, `version ${h.v}`);
  need(typeof h.gw === "string" && count(h.seq) > 0 && count(h.ep) >= 0 && Number.isInteger(h.t0), "the envelope");
  const body = (h.z ??= 0) ? unpack(inflate(h.z, h.b)) : h.b;
  delete h.b;
  const [words, series, frames] = ["w", "s", "f"].map((key) => body.get(key) ?? []);
  need(words.length <= WORDS_MAX && Math.max(series.length, frames.length) <= PARTS_MAX, "too large");
  const word = (n) => (need(typeof words[count(n)] === "string", "a word is out of range"), words[n]);
  const names = series.map((row) => row.slice(0, 3).map(word));
  const kinds = series.map((row) => (need(Number.isInteger(row[3]), "a kind"), row[3] >= WORD && row[3] <= 9 ? row[3] : null));
  const [readings, unknown] = [[], { frames: 0, readings: 0 }];
  for (const frame of frames) {
    const read = Array.isArray(frame) ? { 0: grid, 1: events }[frame[0]] : undefined;
    if (!read) { unknown.frames++; continue; }
    need(frame[2].every((i) => count(i) < series.length), "an id is out of range");
    for (const [i, t, n, q] of read(frame, h.t0, kinds, words)) {
      if (kinds[i] === null) unknown.readings++;
      else readings.push([...names[i], t, value(kinds[i], n, words, count(q)), q]);
      need(readings.length + unknown.readings <= READINGS_MAX, "too many readings");
    }
  }
  need(unknown.frames || readings.length + unknown.readings === h.n, "the count is wrong");
  return [h, readings, unknown.frames, unknown.readings];
}

export function* lines(h, readings) {
  const key = `${h.gw}/${h.ep}/${h.st ?? "data"}/${h.seq}`;
  for (const [device, point, unit, t, value, q] of readings) {
    yield JSON.stringify({ gw: h.gw, device, point, t: new Date(t).toISOString(), value, unit, q, key });
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  if (process.argv[2] === "--check") {
    const { run } = await import("./check.mjs");
    process.exitCode = run(process.argv[3], decode);
  } else {
    const payload = readFileSync(process.argv[2] === "-" ? 0 : process.argv[2]);
    for (const line of lines(...decode(payload))) console.log(line);
  }
}

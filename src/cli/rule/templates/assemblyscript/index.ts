// What the host calls, in the layouts of the component model's canonical ABI. Leave it as it is.
import { Context, Fired, Kind, NoData, Reading, Series, address, back, log, text, utf8 } from "./fieldgate";
import * as rule from "./rule";

// What the host hands over is a chain of blocks, freed when the call ends.
let chain: usize = 0;

export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  const block = heap.alloc(size + 16);
  store<usize>(block, chain);
  chain = block;
  if (old) memory.copy(block + 16, old, min(oldSize, size));
  return block + 16;
}

let failure: ArrayBuffer = new ArrayBuffer(0);
const code = utf8("failed");

function end(why: string | null, version: u32): usize {
  while (chain) {
    const before = load<usize>(chain);
    heap.free(chain);
    chain = before;
  }
  store<u32>(back, why === null ? 0 : 1);
  store<u32>(back, version, 4);
  if (why !== null) {
    failure = utf8(why);
    store<usize>(back, address(code), 4);
    store<i32>(back, code.byteLength, 8);
    store<usize>(back, address(failure), 12);
    store<i32>(back, failure.byteLength, 16);
  }
  __collect();
  return back;
}

function allSeries(at: usize, length: i32): Series[] {
  const all = new Array<Series>(length);
  for (let n = 0; n < length; n++, at += 40) {
    const series = new Series();
    series.id = load<u32>(at);
    series.device = text(at + 4);
    series.point = text(at + 12);
    if (load<u8>(at, 20) != 0) series.unit = text(at + 24);
    all[n] = series;
  }
  return all;
}

function context(batch: u64, now: i64, watermark: i64, synced: bool, fresh: bool): Context {
  return { batch, now, watermark, clockSynced: synced, fresh };
}

// `rule build` gives these the names of the contract.

export function guest_open(at: usize, length: i32): usize {
  return end(rule.open(allSeries(at, length)), rule.STATE_VERSION);
}

export function guest_migrate(from: u32): usize {
  return end(rule.migrate(from), 0);
}

export function guest_series_added(at: usize, length: i32): usize {
  return end(rule.seriesAdded(allSeries(at, length)), 0);
}

export function guest_process(
  batch: u64, now: i64, watermark: i64, synced: bool, fresh: bool, at: usize, length: i32,
): usize {
  const readings = new Array<Reading>(length);
  for (let n = 0; n < length; n++, at += 40) {
    const r = new Reading();
    r.series = load<u32>(at);
    r.at = load<i64>(at, 8);
    r.quality = load<u8>(at, 16);
    r.kind = <Kind>load<u8>(at, 24);
    switch (r.kind) {
      case Kind.Number: r.number = load<f64>(at, 32); break;
      case Kind.Integer: r.integer = load<i64>(at, 32); break;
      case Kind.Boolean: r.flag = load<u8>(at, 32) != 0; break;
      case Kind.Text: r.text = text(at + 32); break;
      default: r.none = <NoData>load<u8>(at, 32);
    }
    readings[n] = r;
  }
  return end(rule.process(context(batch, now, watermark, synced, fresh), readings), 0);
}

export function guest_on_timer(
  batch: u64, now: i64, watermark: i64, synced: bool, fresh: bool, at: usize, length: i32,
): usize {
  const all = new Array<Fired>(length);
  for (let n = 0; n < length; n++, at += 16) {
    const fired = new Fired();
    fired.name = text(at);
    fired.at = load<i64>(at, 8);
    all[n] = fired;
  }
  return end(rule.onTimer(context(batch, now, watermark, synced, fresh), all), 0);
}

/** Called by the runtime when something cannot go on. */
export function fg_abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const where = (file === null ? "" : file) + ":" + line.toString();
  log(3, (message === null ? "aborted" : message) + " at " + where);
  unreachable();
}

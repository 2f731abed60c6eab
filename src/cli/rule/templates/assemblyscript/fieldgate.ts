// fieldgate:rule@1.0.0 for AssemblyScript: the contract's types, and what a rule can call. Leave it
// as it is; what you write stands in rule.ts.
/** Microseconds. */
export const SECOND: i64 = 1_000_000;

export enum Kind { Number, Integer, Boolean, Text, None }
export enum NoData { Timeout, DeviceException, Malformed, OutOfRange, Offline, Configuration }
export enum Quality { Uncertain = 1, Bad = 2, Late = 4, ClockUnsynced = 8, Derived = 16, Substituted = 32 }

export class Reading {
  series: u32;
  /** Microseconds since 1970 UTC. */
  at: i64;
  quality: u8;
  kind: Kind;
  number: f64;
  integer: i64;
  flag: bool;
  text: string = "";
  none: NoData;
}

export class Series {
  id: u32;
  device: string = "";
  point: string = "";
  unit: string | null = null;
}

export class Context {
  batch: u64;
  now: i64;
  watermark: i64;
  clockSynced: bool;
  fresh: bool;
}

export class Fired {
  name: string = "";
  at: i64;
}

// @ts-ignore: decorator
@external("fieldgate:rule/params@1.0.0", "get")
declare function rawParam(name: usize, length: i32, back: usize): void;
// @ts-ignore: decorator
@external("fieldgate:rule/output@1.0.0", "declare")
declare function rawDeclare(
  stream: i32, device: usize, deviceLength: i32, point: usize, pointLength: i32,
  hasUnit: i32, unit: usize, unitLength: i32, back: usize,
): void;
// @ts-ignore: decorator
@external("fieldgate:rule/output@1.0.0", "emit")
declare function rawEmit(readings: usize, length: i32): void;
// @ts-ignore: decorator
@external("fieldgate:rule/state@1.0.0", "get")
declare function rawStateGet(key: usize, length: i32, back: usize): void;
// @ts-ignore: decorator
@external("fieldgate:rule/state@1.0.0", "set")
declare function rawStateSet(key: usize, length: i32, value: usize, valueLength: i32): void;
// @ts-ignore: decorator
@external("fieldgate:rule/state@1.0.0", "delete")
declare function rawStateDelete(key: usize, length: i32): void;
// @ts-ignore: decorator
@external("fieldgate:rule/timers@1.0.0", "set")
declare function rawTimerSet(name: usize, length: i32, at: i64): void;
// @ts-ignore: decorator
@external("fieldgate:rule/timers@1.0.0", "cancel")
declare function rawTimerCancel(name: usize, length: i32): void;
// @ts-ignore: decorator
@external("fieldgate:rule/log@1.0.0", "write")
declare function rawLog(level: i32, message: usize, length: i32): void;

/** Where imports and exports leave their answers, in the layouts of the canonical ABI. */
export const back: usize = memory.data(32, 8);
const one: usize = memory.data(40, 8);

export function utf8(text: string): ArrayBuffer {
  return String.UTF8.encode(text);
}

export function address(bytes: ArrayBuffer): usize {
  return changetype<usize>(bytes);
}

export function text(at: usize): string {
  return String.UTF8.decodeUnsafe(load<usize>(at), load<usize>(at, 4));
}

export namespace params {
  function find(name: string): bool {
    const bytes = utf8(name);
    rawParam(address(bytes), bytes.byteLength, back);
    return load<u8>(back) != 0;
  }
  export function number(name: string, otherwise: f64): f64 {
    return find(name) ? load<f64>(back, 16) : otherwise;
  }
  export function integer(name: string, otherwise: i64): i64 {
    return find(name) ? load<i64>(back, 16) : otherwise;
  }
  export function flag(name: string, otherwise: bool): bool {
    return find(name) ? load<u8>(back, 16) != 0 : otherwise;
  }
  /** Microseconds. */
  export function duration(name: string, otherwise: i64): i64 {
    return find(name) ? load<i64>(back, 16) : otherwise;
  }
  export function words(name: string, otherwise: string): string {
    return find(name) ? text(back + 16) : otherwise;
  }
}

export namespace state {
  export function get(key: string): ArrayBuffer | null {
    const bytes = utf8(key);
    rawStateGet(address(bytes), bytes.byteLength, back);
    if (load<u8>(back) == 0) return null;
    const length = load<i32>(back, 8);
    const kept = new ArrayBuffer(length);
    memory.copy(address(kept), load<usize>(back, 4), length);
    return kept;
  }
  export function set(key: string, value: ArrayBuffer): void {
    const bytes = utf8(key);
    rawStateSet(address(bytes), bytes.byteLength, address(value), value.byteLength);
  }
  export function remove(key: string): void {
    const bytes = utf8(key);
    rawStateDelete(address(bytes), bytes.byteLength);
  }
}

export namespace timers {
  export function set(name: string, at: i64): void {
    const bytes = utf8(name);
    rawTimerSet(address(bytes), bytes.byteLength, at);
  }
  export function cancel(name: string): void {
    const bytes = utf8(name);
    rawTimerCancel(address(bytes), bytes.byteLength);
  }
}

/** 0 debug, 1 info, 2 warning, 3 error. */
export function log(level: i32, message: string): void {
  const bytes = utf8(message);
  rawLog(level, address(bytes), bytes.byteLength);
}

/** Declares an output, only in open and seriesAdded; returns its series. Traps when refused. */
export function declare(event: bool, device: string, point: string, unit: string | null): u32 {
  const d = utf8(device);
  const p = utf8(point);
  const u = utf8(unit === null ? "" : unit);
  rawDeclare(event ? 1 : 0, address(d), d.byteLength, address(p), p.byteLength,
    unit === null ? 0 : 1, address(u), u.byteLength, back);
  if (load<u8>(back) != 0) throw new Error(text(back + 4));
  return load<u32>(back, 4);
}

export function emit(r: Reading): void {
  store<u32>(one, r.series);
  store<i64>(one, r.at, 8);
  store<u8>(one, r.quality, 16);
  store<u8>(one, <u8>r.kind, 24);
  let held: ArrayBuffer | null = null;
  switch (r.kind) {
    case Kind.Number: store<f64>(one, r.number, 32); break;
    case Kind.Integer: store<i64>(one, r.integer, 32); break;
    case Kind.Boolean: store<u8>(one, r.flag ? 1 : 0, 32); break;
    case Kind.Text: {
      held = utf8(r.text);
      store<usize>(one, address(held), 32);
      store<i32>(one, held.byteLength, 36);
      break;
    }
    default: store<u8>(one, <u8>r.none, 32);
  }
  rawEmit(one, 1);
}

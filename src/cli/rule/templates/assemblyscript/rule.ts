// Sends a reading when it has moved by more than a band since the one sent before, or after a
// heartbeat. Make it your own; what an operator can set stands in rule.toml.
import { Context, Fired, Kind, Reading, SECOND, Series, emit, params, state } from "./fieldgate";

/** What is remembered of one series. Memory is only a cache: what must survive is written to state. */
class Last {
  known: bool = false;
  loaded: bool = false;
  changed: bool = false;
  number: f64 = 0;
  at: i64 = 0;
  constructor(public key: string) {}

  load(): void {
    const kept = state.get(this.key);
    this.loaded = true;
    if (kept === null || kept.byteLength != 16) return;
    const view = new DataView(kept);
    this.number = view.getFloat64(0, true);
    this.at = view.getInt64(8, true);
    this.known = true;
  }

  save(): void {
    const kept = new ArrayBuffer(16);
    const view = new DataView(kept);
    view.setFloat64(0, this.number, true);
    view.setInt64(8, this.at, true);
    state.set(this.key, kept);
    this.changed = false;
  }
}

/** Version of the state that is written. */
export const STATE_VERSION: u32 = 1;

const all = new Array<Last>();
let band: f64 = 0.1;
let heartbeat: i64 = 600 * SECOND;

// Each of these returns null, or a sentence that says why it failed; then nothing of the call counts.

export function open(series: Series[]): string | null {
  band = params.number("band", band);
  heartbeat = params.duration("heartbeat", heartbeat);
  return seriesAdded(series);
}

export function seriesAdded(series: Series[]): string | null {
  for (let n = 0; n < series.length; n++) all.push(new Last(series[n].device + "/" + series[n].point));
  return null;
}

export function process(context: Context, batch: Reading[]): string | null {
  for (let n = 0; n < batch.length; n++) {
    const r = batch[n];
    if (r.kind != Kind.Number) { // also that there is no value
      emit(r);
      continue;
    }
    const last = all[r.series];
    if (!last.loaded) last.load();
    const quiet = last.known && Math.abs(r.number - last.number) <= band && r.at - last.at < heartbeat;
    if (!quiet) {
      last.number = r.number;
      last.at = r.at;
      last.known = true;
      last.changed = true;
      emit(r);
    }
  }
  for (let n = 0; n < all.length; n++) if (all[n].changed) all[n].save();
  return null;
}

export function onTimer(context: Context, fired: Fired[]): string | null {
  return null;
}

export function migrate(from: u32): string | null {
  return "there is no earlier version of its state";
}

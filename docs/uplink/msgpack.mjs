// MessagePack for decode.mjs, so that it runs without an install: maps come as Map, bin and
// extensions as bytes, and 64-bit integers that binary64 cannot hold as BigInt.
const ITEMS_MAX = 1e6;

export const need = (truth, why) => { if (!truth) throw new RangeError(why); };

/** Reads the one value that `bytes` hold. */
export function unpack(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 0;
  const take = (n) => (need(at + n <= bytes.length, "it ends in the middle"), (at += n) - n);
  const uint = (size) => view[`getUint${8 * size}`](take(size));
  const wide = (n) => (n >= -(2n ** 53n) && n <= 2n ** 53n ? Number(n) : n);
  const text = (n) => new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(take(n), at));
  const bin = (n) => bytes.subarray(take(n), at);
  const list = (n, depth) => {
    need(n <= Math.min(bytes.length - at, ITEMS_MAX), "it ends in the middle");
    return Array.from({ length: n }, () => one(depth + 1));
  };
  const map = (n, depth) => {
    const all = new Map();
    for (; n > 0; n--) all.set(one(depth + 1), one(depth + 1));
    return all;
  };
  function one(depth) {
    need(depth <= 32, "nested too deep");
    const b = uint(1);
    if (b < 0x80) return b;
    if (b >= 0xe0) return b - 256;
    if (b < 0x90) return map(b & 15, depth);
    if (b < 0xa0) return list(b & 15, depth);
    if (b < 0xc0) return text(b & 31);
    switch (b) {
      case 0xc0: return null;
      case 0xc2: case 0xc3: return b === 0xc3;
      case 0xc4: case 0xc5: case 0xc6: return bin(uint(1 << (b - 0xc4)));
      case 0xc7: case 0xc8: case 0xc9: return bin(uint(1 << (b - 0xc7)) + 1); // an extension: no one reads it
      case 0xca: return view.getFloat32(take(4));
      case 0xcb: return view.getFloat64(take(8));
      case 0xcc: case 0xcd: case 0xce: return uint(1 << (b - 0xcc));
      case 0xcf: return wide(view.getBigUint64(take(8)));
      case 0xd0: return view.getInt8(take(1));
      case 0xd1: return view.getInt16(take(2));
      case 0xd2: return view.getInt32(take(4));
      case 0xd3: return wide(view.getBigInt64(take(8)));
      case 0xd9: case 0xda: case 0xdb: return text(uint(1 << (b - 0xd9)));
      case 0xdc: case 0xdd: return list(uint(2 << (b - 0xdc)), depth);
      case 0xde: case 0xdf: return map(uint(2 << (b - 0xde)), depth);
    }
    need(b >= 0xd4 && b <= 0xd8, "not MessagePack");
    return bin(1 + (1 << (b - 0xd4)));
  }
  const value = one(0);
  need(at === bytes.length, "bytes behind the end");
  return value;
}

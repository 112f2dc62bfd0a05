// What a file's first bytes say.

import assert from "node:assert/strict";

/** Format and size of a PNG, JPEG or WebP file. */
export function looksLike(bytes) {
  const data = Buffer.from(bytes);
  if (data.subarray(1, 4).toString() === "PNG") {
    return ["png", `${data.readUInt32BE(16)}x${data.readUInt32BE(20)}`];
  }
  if (data[0] === 0xff && data[1] === 0xd8) {
    for (let at = 2; at < data.length; at += 2 + data.readUInt16BE(at + 2)) {
      const marker = data[at + 1];
      const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
      if (isFrame) return ["jpeg", `${data.readUInt16BE(at + 7)}x${data.readUInt16BE(at + 5)}`];
    }
  }
  if (data.subarray(0, 4).toString() === "RIFF" && data.subarray(8, 12).toString() === "WEBP") {
    if (data.subarray(12, 16).toString() === "VP8X") {
      return ["webp", `${data.readUIntLE(24, 3) + 1}x${data.readUIntLE(27, 3) + 1}`];
    }
    return ["webp", ""];
  }
  return ["unknown", data.subarray(0, 8).toString("hex")];
}

/** Checks the format and size of base64 text. */
export function isPicture(base64, format, size) {
  assert.match(base64, /^[A-Za-z0-9+/]+=*$/);
  const [is, measures] = looksLike(Buffer.from(base64, "base64"));
  assert.equal(is, format);
  assert.equal(measures, size);
}

// The receipt inside a PNG: everything that the picture depends on.

/** Reads the receipt, or returns nothing. The seed stays a text: it has 64 bits, more than a number here. */
async function receiptOf(file) {
  const bytes = new DataView(await file.arrayBuffer());
  const text = new TextDecoder();
  if (bytes.byteLength < 8 || bytes.getUint32(0) !== 0x89504e47) return null;
  for (let at = 8; at + 12 <= bytes.byteLength;) {
    const length = bytes.getUint32(at);
    if (at + 12 + length > bytes.byteLength) return null;
    const kind = text.decode(new Uint8Array(bytes.buffer, at + 4, 4));
    const data = new Uint8Array(bytes.buffer, at + 8, length);
    if (kind === 'IDAT') return null;
    if (kind === 'iTXt' && text.decode(data.subarray(0, 10)) === 'imagepool\0') {
      // After the keyword: two bytes about compression, then two texts that each end with a zero byte.
      const language = data.indexOf(0, 12);
      const translated = data.indexOf(0, language + 1);
      return readReceipt(text.decode(data.subarray(translated + 1)));
    }
    at += 12 + length;
  }
  return null;
}

function readReceipt(json) {
  const receipt = parsed(json);
  if (typeof receipt.prompt !== 'string') return null;
  receipt.seed = seedIn(json) ?? String(receipt.seed);
  return receipt;
}

/** The seed in a JSON object, digit by digit. Quotes inside texts are escaped, so only the field matches. */
const seedIn = (json) => /"seed":\s*(\d+)/.exec(json)?.[1] ?? null;

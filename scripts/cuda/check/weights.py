"""Writes a published model's folder with random weights, in its real sizes."""

import json
import os
import struct

BLOCK = 64 << 20

# The files of a folder: part, prefix of the tensors' names, dtype in the file.
FILES = {
    "flux": {
        "flux1-schnell.safetensors": ("transformer", "", "BF16"),
        "ae.safetensors": ("decoder", "", "F32"),
        "t5xxl_fp16.safetensors": ("t5", "", "BF16"),
        "clip_l.safetensors": ("clip_l", "", "BF16"),
    },
    "sd3": {
        "sd3.5_large_turbo.safetensors": ("transformer", "model.diffusion_model.", "BF16"),
        "sd3_vae.safetensors": ("decoder", "", "F32"),
        "t5xxl_fp16.safetensors": ("t5", "", "BF16"),
        "text_encoders/clip_l.safetensors": ("clip_l", "", "BF16"),
        "text_encoders/clip_g.safetensors": ("clip_g", "", "BF16"),
    },
}
WIDTHS = {"BF16": 2, "F32": 4}


def block(dtype):
    """Values of random sign between 2^-7 and 2^-6, so that nothing overflows."""
    keep, exponent = {"BF16": (0x807F, 0x3C00), "F32": (0x807FFFFF, 0x3C000000)}[dtype]
    width = WIDTHS[dtype]
    repeat = lambda word: int.from_bytes(word.to_bytes(width, "little") * (BLOCK // width), "little")
    values = int.from_bytes(os.urandom(BLOCK), "little") & repeat(keep) | repeat(exponent)
    return values.to_bytes(BLOCK, "little")


def write(folder, family, shapes):
    """Writes all files; returns their bytes."""
    blocks, total = {}, 0
    for name, (part, prefix, dtype) in FILES[family].items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        header, at = {}, 0
        for tensor, shape in shapes[part].items():
            count = WIDTHS[dtype]
            for side in shape:
                count *= side
            header[prefix + tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + count]}
            at += count
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        if dtype not in blocks:
            blocks[dtype] = memoryview(block(dtype))
        with open(path, "wb", buffering=0) as file:
            file.write(struct.pack("<Q", len(text)) + text)
            left = at
            while left:
                left -= file.write(blocks[dtype][: min(left, BLOCK)])
        total += at
    return total

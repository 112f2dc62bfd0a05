//! Pictures in another size.

use ipc_protocol::units::PictureSize;

/// Scales a picture: each pixel takes the colour of the nearest one. `rgb8` are rows from the top, three bytes a pixel.
pub fn scale(from: PictureSize, rgb8: &[u8], to: PictureSize) -> Vec<u8> {
    let nearest = |at: u32, of: u32, among: u32| u64::from(at) * u64::from(among) / u64::from(of);
    let mut scaled = Vec::with_capacity(to.rgb8_bytes() as usize);
    for y in 0..to.height {
        let row = nearest(y, to.height, from.height) * u64::from(from.width);
        for x in 0..to.width {
            let at = 3 * (row + nearest(x, to.width, from.width)) as usize;
            scaled.extend_from_slice(&rgb8[at..at + 3]);
        }
    }
    scaled
}

//! The luma and chroma planes of a picture, in macroblocks, and the pixels around one.

use ipc_protocol::units::PictureSize;

/// A plane of whole macroblocks; a partial one at the edge repeats the picture's last column and row.
#[derive(Debug)]
pub struct Plane {
    width: usize,
    bytes: Vec<u8>,
}

/// A picture as YCbCr (BT.601, limited range) with chroma of half the size.
#[derive(Debug)]
pub struct Planes {
    /// Number of macroblocks in a row and in a column.
    pub macroblocks: (usize, usize),
    pub luma: Plane,
    pub chroma: [Plane; 2],
}

impl Planes {
    /// Converts pixels, rows from the top, three bytes a pixel. Uses integers as libwebp does.
    pub fn of(size: PictureSize, rgb8: &[u8]) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let (across, down) = (width.div_ceil(16), height.div_ceil(16));
        let pixel = |x: usize, y: usize| -> [i32; 3] {
            let place = 3 * (y.min(height - 1) * width + x.min(width - 1));
            [rgb8[place], rgb8[place + 1], rgb8[place + 2]].map(i32::from)
        };
        let luma = Plane::filled(across * 16, down * 16, |x, y| {
            let [r, g, b] = pixel(x, y);
            ((16_839 * r + 33_059 * g + 6_420 * b + (1 << 15) + (16 << 16)) >> 16) as u8
        });
        let chroma = [[-9_719, -19_081, 28_800], [28_800, -24_116, -4_684]].map(|weights| {
            Plane::filled(across * 8, down * 8, |x, y| {
                let mut sum = (1 << 17) + (128 << 18);
                for (dx, dy) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
                    let pixel = pixel(2 * x + dx, 2 * y + dy);
                    sum += (0..3).map(|i| weights[i] * pixel[i]).sum::<i32>();
                }
                (sum >> 18).clamp(0, 255) as u8
            })
        });
        Self {
            macroblocks: (across, down),
            luma,
            chroma,
        }
    }
}

impl Plane {
    fn filled(width: usize, height: usize, value: impl Fn(usize, usize) -> u8) -> Self {
        let mut bytes = Vec::with_capacity(width * height);
        for y in 0..height {
            bytes.extend((0..width).map(|x| value(x, y)));
        }
        Self { width, bytes }
    }

    /// The pixels of a macroblock, N to a side.
    pub fn macroblock<const N: usize>(&self, column: usize, row: usize) -> Square<N> {
        std::array::from_fn(|y| {
            let begin = (row * N + y) * self.width + column * N;
            let line: &[u8; N] = self.bytes[begin..]
                .first_chunk()
                .expect("a plane is made of whole macroblocks");
            *line
        })
    }
}

/// The pixels of a macroblock in one plane, rows from the top.
pub type Square<const N: usize> = [[u8; N]; N];

/// The decoded pixels above and to the left of the next macroblock.
#[derive(Debug)]
pub struct Border<const N: usize> {
    above: Vec<u8>,
    left: [u8; N],
    corner: u8,
    row: usize,
}

/// The pixels around one macroblock, with VP8's constants outside of the picture; section 12.2.
#[derive(Debug, Clone, Copy)]
pub struct Edges<const N: usize> {
    pub above: [u8; N],
    /// The four pixels after `above`.
    pub after: [u8; 4],
    pub left: [u8; N],
    /// The pixel before `above`.
    pub corner: u8,
    /// Whether `above` and `left` are in the picture.
    pub inside: (bool, bool),
}

impl<const N: usize> Border<N> {
    /// The border of the first row of macroblocks.
    pub fn new(columns: usize) -> Self {
        Self {
            above: vec![127; columns * N],
            left: [129; N],
            corner: 127,
            row: 0,
        }
    }

    /// Goes to the left end of the next row.
    pub fn next_row(&mut self) {
        self.row += 1;
        (self.left, self.corner) = ([129; N], 129);
    }

    /// The pixels around the macroblock of a column.
    pub fn edges(&self, column: usize) -> Edges<N> {
        let above = std::array::from_fn(|x| self.above[column * N + x]);
        let after = std::array::from_fn(|x| match self.row {
            0 => 127,
            // The last column has no macroblock after it: libwebp repeats the last pixel.
            _ => self
                .above
                .get(column * N + N + x)
                .copied()
                .unwrap_or(above[N - 1]),
        });
        Edges {
            above,
            after,
            left: self.left,
            corner: self.corner,
            inside: (self.row > 0, column > 0),
        }
    }

    /// Replaces the pixels by those of the decoded macroblock of a column.
    pub fn pass(&mut self, column: usize, decoded: &Square<N>) {
        let above = &mut self.above[column * N..][..N];
        self.corner = above[N - 1];
        above.copy_from_slice(&decoded[N - 1]);
        self.left = decoded.map(|line| line[N - 1]);
    }
}

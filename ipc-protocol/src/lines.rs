//! Lines of text, split so that each part fits into one frame.

/// The largest number of bytes of lines in one frame.
const PART_BYTES_MAX: usize = 32 * 1024;
/// Bytes that a line takes in addition to its text.
const LINE_BYTES: usize = 16;

/// Splits lines into parts, one for each frame; there is at least one. A line longer than a frame is cut.
pub(crate) fn split(all: Vec<String>) -> Vec<Vec<String>> {
    let (mut parts, mut lines, mut bytes) = (Vec::new(), Vec::new(), 0);
    for mut line in all {
        line.truncate(line.floor_char_boundary(PART_BYTES_MAX - LINE_BYTES));
        let more = line.len() + LINE_BYTES;
        if bytes + more > PART_BYTES_MAX {
            parts.push(std::mem::take(&mut lines));
            bytes = 0;
        }
        bytes += more;
        lines.push(line);
    }
    parts.push(lines);
    parts
}

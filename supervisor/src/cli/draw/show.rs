//! Shows a picture in the terminal: two pixels per character cell, in 24-bit colour.

use std::io::{self, IsTerminal, Write};

use ipc_protocol::client::Picture;

/// Most characters in a row.
const COLUMNS_MAX: u32 = 64;

/// Prints the picture on stderr if that is a terminal.
pub fn show(picture: &Picture) -> io::Result<()> {
    let stderr = io::stderr();
    if !stderr.is_terminal() {
        return Ok(());
    }
    stderr.lock().write_all(render(picture).as_bytes())
}

/// Renders with upper half blocks: the foreground is the upper pixel, the background the lower one.
fn render(picture: &Picture) -> String {
    let (width, height) = (picture.size.width, picture.size.height);
    let columns = width.min(COLUMNS_MAX);
    let rows = (height * columns / width).max(2) / 2;
    let pixel = |column: u32, half_row: u32| {
        let x = column * width / columns;
        let y = half_row * height / (rows * 2);
        let at = ((y * width + x) * 3) as usize;
        let [r, g, b] = [picture.rgb8[at], picture.rgb8[at + 1], picture.rgb8[at + 2]];
        format!("{r};{g};{b}")
    };
    let mut text = String::new();
    for row in 0..rows {
        for column in 0..columns {
            let (upper, lower) = (pixel(column, row * 2), pixel(column, row * 2 + 1));
            text.push_str(&format!("\x1b[38;2;{upper}m\x1b[48;2;{lower}m▀"));
        }
        text.push_str("\x1b[0m\n");
    }
    text
}

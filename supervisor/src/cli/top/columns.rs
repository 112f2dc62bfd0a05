//! A table that fits a number of columns.

use crate::cli::colour::Tone;
use crate::cli::text::TonedLine;

/// Blanks between two columns.
const GAP: usize = 2;
/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Whether its cells end at the same place, as numbers do.
    pub is_right: bool,
    /// Columns with a larger number are left out earlier; 0 stays.
    pub spare: u8,
}

/// A cell of a table.
pub type Cell = (Tone, String);

/// A column of texts.
pub const fn text(title: &'static str, spare: u8) -> Column {
    Column {
        title,
        is_right: false,
        spare,
    }
}

/// A column of numbers.
pub const fn number(title: &'static str, spare: u8) -> Column {
    Column {
        title,
        is_right: true,
        spare,
    }
}

/// The lines of a table with its headings. If it is wider than `width`, columns are left out until `last_least` of the
/// last one is seen, and then lines are cut.
pub fn lay_out(
    columns: &[Column],
    rows: &[Vec<Cell>],
    width: Option<usize>,
    last_least: usize,
) -> Vec<TonedLine> {
    let natural: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(nth, column)| {
            let cells = rows.iter().filter_map(|row| row.get(nth));
            let widths = cells.map(|(_, text)| TonedLine::of(Tone::Plain, text).width());
            widths.chain([column.title.len()]).max().unwrap_or(0)
        })
        .collect();
    let shown = shown(columns, &natural, width, last_least);
    let heading = columns
        .iter()
        .map(|column| (Tone::Heading, column.title.to_owned()))
        .collect();
    [&heading]
        .into_iter()
        .chain(rows)
        .map(|row| line(columns, row, &shown, &natural))
        .map(|line| match width {
            Some(width) => line.cut(width),
            None => line,
        })
        .collect()
}

/// The columns that fit; the last one only needs `last_least`.
fn shown(
    columns: &[Column],
    natural: &[usize],
    width: Option<usize>,
    last_least: usize,
) -> Vec<usize> {
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let Some(width) = width else {
        return shown;
    };
    let needed = |shown: &[usize]| -> usize {
        let last = shown.len().saturating_sub(1);
        let widths = shown
            .iter()
            .enumerate()
            .map(|(nth, column)| match nth == last {
                true => natural[*column].min(last_least),
                false => natural[*column] + GAP,
            });
        widths.sum()
    };
    while needed(&shown) > width {
        let spare = shown
            .iter()
            .copied()
            .max_by_key(|column| columns[*column].spare);
        match spare.filter(|column| columns[*column].spare > 0) {
            Some(column) => shown.retain(|kept| *kept != column),
            None => break,
        }
    }
    shown
}

fn line(columns: &[Column], row: &[Cell], shown: &[usize], natural: &[usize]) -> TonedLine {
    let mut line = TonedLine::default();
    for (nth, column) in shown.iter().enumerate() {
        let Some((tone, text)) = row.get(*column) else {
            continue;
        };
        let cell = TonedLine::of(*tone, text);
        let width = natural[*column];
        let cell = match columns[*column].is_right {
            true => {
                let mut padded = TonedLine::default().pad(width.saturating_sub(cell.width()));
                padded.join(cell);
                padded
            }
            false if nth + 1 == shown.len() => cell,
            false => cell.pad(width),
        };
        line.join(cell);
        if nth + 1 < shown.len() {
            line.push(Tone::Plain, " ".repeat(GAP));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> Vec<String> {
        let columns = [
            text("NAME", 0),
            number("PID", 2),
            number("DONE", 1),
            text("REASON", 0),
        ];
        let row = |cells: [&str; 4]| cells.map(|cell| (Tone::Plain, cell.to_owned())).to_vec();
        let rows = [
            row(["syn:0", "4711", "3", ""]),
            row(["other:12", "9", "12", "a long reason that has many words"]),
        ];
        lay_out(&columns, &rows, width, 18)
            .iter()
            .map(|line| line.print(false))
            .collect()
    }

    #[test]
    fn a_table_has_the_width_of_its_texts() {
        assert_eq!(
            table(None),
            [
                "NAME       PID  DONE  REASON",
                "syn:0     4711     3",
                "other:12     9    12  a long reason that has many words",
            ]
        );
    }

    #[test]
    fn a_narrow_table_leaves_columns_out_and_cuts_the_last() {
        assert_eq!(
            table(Some(36)),
            [
                "NAME      DONE  REASON",
                "syn:0        3",
                "other:12    12  a long reason that …",
            ]
        );
        assert_eq!(table(Some(28))[2], "other:12  a long reason tha…");
        for width in 1..60 {
            let lines = table(Some(width));
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{lines:#?}"
            );
        }
    }
}

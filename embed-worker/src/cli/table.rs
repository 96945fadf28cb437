//! Columns and figures for a person's eyes.

use std::io::{self, Write};

/// Writes rows under a heading, each column as wide as its widest cell; `right` says of each column
/// whether it is aligned to the right, as figures are.
pub(super) fn write<const N: usize>(
    out: &mut impl Write,
    right: [bool; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = String::new();
        for ((cell, width), right) in row.iter().zip(widths).zip(right) {
            let cell = if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            line.push_str(&cell);
            line.push_str("  ");
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A duration in its two largest units.
pub(super) fn duration(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

/// A time that a request took, in milliseconds.
pub(super) fn milliseconds(us: u64) -> String {
    format!("{:.2} ms", us as f64 / 1e3)
}

/// Bytes as megabytes (millions).
pub(super) fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["PID", "MODEL"], ["7", "größer"], ["4711", "m"]];
        let rows = rows.map(|row| row.map(String::from));
        let mut out = Vec::new();
        write(&mut out, [true, false], &rows).expect("memory");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, " PID  MODEL\n   7  größer\n4711  m\n");
    }

    #[test]
    fn durations_have_their_two_largest_units() {
        let of_seconds = |seconds: u64| duration(seconds * 1000);
        assert_eq!(of_seconds(0), "0s");
        assert_eq!(of_seconds(59), "59s");
        assert_eq!(of_seconds(61), "1m 1s");
        assert_eq!(of_seconds(3600), "1h 0m");
        assert_eq!(of_seconds(86_399), "23h 59m");
        assert_eq!(of_seconds(90_000), "1d 1h");
    }

    #[test]
    fn times_and_bytes_have_their_units() {
        assert_eq!(milliseconds(1234), "1.23 ms");
        assert_eq!(milliseconds(2_500_000), "2500.00 ms");
        assert_eq!(megabytes(12_340_000), "12.3 MB");
    }
}

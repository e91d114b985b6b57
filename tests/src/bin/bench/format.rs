//! Figures as people read them.
use std::time::Duration;

/// A heading, and a table's first two lines.
pub(crate) fn heading(title: &str, columns: &[&str]) {
    println!("\n### {title}\n");
    println!("| {} |", columns.join(" | "));
    println!("|{}", "---|".repeat(columns.len()));
}

/// Bytes in units of a million.
pub(crate) fn megabytes(bytes: u64) -> String {
    match bytes {
        0..10_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// A duration in microseconds below a millisecond, in milliseconds below a second, else in seconds.
pub(crate) fn duration(duration: Duration) -> String {
    match duration.as_micros() {
        0..1_000 => format!("{:.1} us", duration.as_secs_f64() * 1e6),
        1_000..1_000_000 => format!("{:.2} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.2} s", duration.as_secs_f64()),
    }
}

/// What was to be reached, and whether it was.
pub(crate) fn reach(what: &str, is_met: bool) -> String {
    format!("{what}: {}", if is_met { "met" } else { "MISSED" })
}

//! Durations and sizes as people write them.

use std::time::Duration;

/// Units, the longest word first, so that `ms` is not read as `m`.
const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// Reads `250ms`, `5s`, `1.5h`, `1m30s`; `None` if it is nothing like that, or longer than a year.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let (_, nanos) = UNITS.iter().find(|(word, _)| *word == unit)?;
        total += number.parse::<f64>().ok()? * *nanos as f64;
        rest = after.trim_start();
    }
    const YEAR: f64 = 366.0 * 86_400e9;
    (total <= YEAR).then(|| Duration::from_nanos(total.round() as u64))
}

/// Reads a number of bytes with its unit: `64KiB`, `10MB`.
pub(crate) fn size(text: &str) -> Option<u64> {
    const UNITS: [(&str, u64); 7] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("kB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let (digits, unit) = UNITS.iter().find_map(|(word, bytes)| {
        let digits = text.strip_suffix(word)?.trim_end();
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then_some((digits, bytes))
    })?;
    digits.parse::<u64>().ok()?.checked_mul(*unit)
}

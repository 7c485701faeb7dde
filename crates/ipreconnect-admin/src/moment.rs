//! Times as people read them.

use time::OffsetDateTime;

/// Milliseconds since the beginning of 1970, as RFC 3339 has it, in UTC.
#[must_use]
pub fn rfc3339(millis: u64) -> String {
    let time = moment(millis);
    format!(
        "{}T{:02}:{:02}:{:02}.{:03}Z",
        day(time),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

/// The day of a second since the beginning of 1970, in UTC.
#[must_use]
pub fn date(second: u64) -> String {
    day(moment(second.saturating_mul(1000)))
}

/// A time that has passed, in two words at most.
#[must_use]
pub fn span(millis: u64) -> String {
    let seconds = millis / 1000;
    match seconds {
        0 => format!("{millis} ms"),
        1..10 => format!("{seconds}.{} s", millis % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} m {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn day(time: OffsetDateTime) -> String {
    format!(
        "{:04}-{:02}-{:02}",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}

/// A time beyond the calendar is its beginning.
fn moment(millis: u64) -> OffsetDateTime {
    let nanos = i128::from(millis) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

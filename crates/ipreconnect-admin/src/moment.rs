//! Times as people read them.

use std::time::Duration;

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

/// A time in milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The number of a day since the beginning of 1970, of a text that begins with its date as RFC 3339 has it.
#[must_use]
pub fn day_number(text: &str) -> Option<i64> {
    let mut parts = text.get(..10)?.splitn(3, '-');
    let mut part = || parts.next()?.parse::<i32>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    let month = time::Month::try_from(u8::try_from(month).ok()?).ok()?;
    let date = time::Date::from_calendar_date(year, month, u8::try_from(day).ok()?).ok()?;
    Some(i64::from(date.to_julian_day()) - 2_440_588)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_numbers() {
        assert_eq!(day_number("1970-01-01"), Some(0));
        assert_eq!(day_number("2026-11-22T09:00:00Z"), Some(20_779));
        assert_eq!((day_number("2026-13-01"), day_number("soon")), (None, None));
    }

    #[test]
    fn times_are_told_in_two_words() {
        let told = [0, 999, 1_500, 59_999, 61_000, 3_600_000, 90_000_000].map(span);
        let wanted = [
            "0 ms", "999 ms", "1.5 s", "59 s", "1 m 1 s", "1 h 0 m", "1 d 1 h",
        ];
        assert_eq!(told, wanted);
        assert_eq!(rfc3339(1_000), "1970-01-01T00:00:01.000Z");
    }
}

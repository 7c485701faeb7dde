//! Dates of HTTP (RFC 9110, section 5.6.7), to seconds since the beginning of 1970 and back.

use super::super::text::decimal;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const LONG_DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
const DAY: u64 = 24 * 60 * 60;

/// Reads a date in one of the three formats; `now` settles which century two digits mean. What is only like
/// a date is none.
#[must_use]
pub fn http_date(text: &[u8], now: u64) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    match text.split_once(", ") {
        Some((day, rest)) if is_one_of(&DAYS, day) => fixed(rest),
        Some((day, rest)) if is_one_of(&LONG_DAYS, day) => rfc850(rest, now),
        Some(_) => None,
        None => asctime(text),
    }
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|one| one.eq_ignore_ascii_case(word))
}

/// `06 Nov 1994 08:49:37 GMT`.
fn fixed(text: &str) -> Option<u64> {
    let [day, month, year, time, zone] = pieces(text, ' ')?;
    let is_gmt = zone.eq_ignore_ascii_case("GMT");
    let (day, year) = (number(day, 2)?, number(year, 4)?);
    seconds(year, month, day, time).filter(|_| is_gmt)
}

/// `06-Nov-94 08:49:37 GMT`.
fn rfc850(text: &str, now: u64) -> Option<u64> {
    let [date, time, zone] = pieces(text, ' ')?;
    let [day, month, year] = pieces(date, '-')?;
    let is_gmt = zone.eq_ignore_ascii_case("GMT");
    let (this, _, _) = civil(now / DAY);
    let mut year = this - this % 100 + number(year, 2)?;
    // What seems to be more than 50 years ahead is the last year with these digits.
    if year > this + 50 {
        year -= 100;
    }
    seconds(year, month, number(day, 2)?, time).filter(|_| is_gmt)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(text: &str) -> Option<u64> {
    let (head, day, rest) = (text.get(..8)?, text.get(8..10)?, text.get(10..)?);
    let [weekday, month, ""] = pieces(head, ' ')? else {
        return None;
    };
    let ["", time, year] = pieces(rest, ' ')? else {
        return None;
    };
    let day = match day.strip_prefix(' ') {
        Some(digit) => number(digit, 1)?,
        None => number(day, 2)?,
    };
    let year = number(year, 4)?;
    seconds(year, month, day, time).filter(|_| is_one_of(&DAYS, weekday))
}

/// Exactly so many pieces.
fn pieces<const COUNT: usize>(text: &str, by: char) -> Option<[&str; COUNT]> {
    let pieces: Vec<&str> = text.split(by).collect();
    pieces.try_into().ok()
}

fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits).then_some(())?;
    decimal(text.as_bytes())
}

fn seconds(year: u64, month: &str, day: u64, time: &str) -> Option<u64> {
    let month = MONTHS
        .iter()
        .position(|one| one.eq_ignore_ascii_case(month))?;
    let month = month as u64 + 1;
    let [hour, minute, second] = pieces(time, ':')?;
    let (hour, minute, second) = (number(hour, 2)?, number(minute, 2)?, number(second, 2)?);
    // A leap second is one.
    if year < 1970 || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days(year, month, day);
    // The 31st of a shorter month is no day.
    (civil(days) == (year, month, day)).then_some(())?;
    Some(days * DAY + hour * 3600 + minute * 60 + second)
}

/// Days since the beginning of 1970, in the proleptic Gregorian calendar.
fn days(year: u64, month: u64, day: u64) -> u64 {
    // Years begin in March here, so that the day that may be missing is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let shifted = (month + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + day.max(1) - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    (era * 146_097 + day_of_era).saturating_sub(719_468)
}

/// Year, month and day of a day since the beginning of 1970.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

/// Writes a date in the format that is to be written.
#[must_use]
pub fn write_date(at: u64) -> String {
    let (year, month, day) = civil(at / DAY);
    let word = |words: &[&'static str], index: u64| {
        let index = usize::try_from(index).unwrap_or_default();
        words.get(index).copied().unwrap_or_default()
    };
    let (weekday, month) = (word(&DAYS, at / DAY % 7), word(&MONTHS, month - 1));
    let (hour, minute, second) = (at / 3600 % 24, at / 60 % 60, at % 60);
    format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
}

//! What people ask of the ledger.

use std::collections::BTreeMap;

use ipreconnect::stats::Times;
use rusqlite::{Connection, Row, params};

use super::store::{SAMPLE, unpack};
use crate::moment::{self, date};
use crate::view::{
    DayView, FindingView, History, HistoryQuestion, LossView, OriginHistory, ResponseView, SCHEMA,
    SampleView, UptimeView,
};

const MINUTE: u64 = 60;
/// Minutes that are told one by one.
const MINUTES: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;
/// Days that are told one by one.
const DAYS: u64 = 90;
/// Losses that are told unless somebody wants another number of them.
const LOSSES: u32 = 100;
const MOST: u32 = 100_000;

/// The length of rollups in seconds, and the beginning of the first one.
type Window = (u64, u64);

/// Answers a question; `now` is in seconds since the beginning of 1970.
pub(super) fn answer(
    connection: &Connection,
    question: &HistoryQuestion,
    now: u64,
) -> rusqlite::Result<History> {
    let only = question.origin.as_deref();
    let mut origins: BTreeMap<i64, OriginHistory> = names(connection, only)?;
    let today = now / DAY * DAY;
    // The 24 hours and 7 days that end now, in whole hours; the longer times in whole days.
    let day = (HOUR, now.saturating_sub(DAY) / HOUR * HOUR);
    let week = (HOUR, now.saturating_sub(7 * DAY) / HOUR * HOUR);
    let month = (DAY, today.saturating_sub(29 * DAY));
    let year = (DAY, today.saturating_sub(364 * DAY));
    for (id, day, week) in uptimes(connection, day, week, only)? {
        if let Some(origin) = origins.get_mut(&id) {
            (origin.day, origin.week) = (day, week);
        }
    }
    for (id, month, year) in uptimes(connection, month, year, only)? {
        if let Some(origin) = origins.get_mut(&id) {
            (origin.month, origin.year) = (month, year);
        }
    }
    for (id, at, uptime) in days(connection, today.saturating_sub((DAYS - 1) * DAY), only)? {
        if let Some(origin) = origins.get_mut(&id) {
            let date = date(at);
            origin.days.push(DayView { date, uptime });
        }
    }
    for (id, times) in responses(connection, day, only)? {
        if let Some(origin) = origins.get_mut(&id) {
            origin.response = response(&times);
        }
    }
    for (id, recent) in minutes(connection, now / MINUTE, only)? {
        if let Some(origin) = origins.get_mut(&id) {
            origin.recent = recent;
        }
    }
    if let Some(seconds) = question.samples {
        for (id, sample) in samples(connection, now.saturating_sub(seconds.into()), only)? {
            if let Some(origin) = origins.get_mut(&id) {
                origin.samples.push(sample);
            }
        }
    }
    let mut origins: Vec<OriginHistory> = origins.into_values().collect();
    origins.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(History {
        schema: SCHEMA,
        origins,
        losses: losses(connection, question)?,
        findings: findings(connection, question)?,
        ..History::default()
    })
}

/// What the guard has found, where nobody asks for one origin only.
fn findings(
    connection: &Connection,
    question: &HistoryQuestion,
) -> rusqlite::Result<Vec<FindingView>> {
    // A file of an older version has no such table before a gateway has opened it.
    let sql = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'finding'";
    let has_some: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    if has_some == 0 || question.origin.is_some() {
        return Ok(Vec::new());
    }
    let sql = "SELECT id, first_ms, kind, port, peer, user, program, action, rule, told
               FROM finding ORDER BY id DESC LIMIT ?1";
    let mut all = connection.prepare_cached(sql)?;
    let rows = all.query_map([question.limit.unwrap_or(LOSSES).min(MOST)], |row| {
        let positive = |at: usize| {
            row.get(at)
                .map(|value: i64| u64::try_from(value).unwrap_or_default())
        };
        let first_ms = positive(1)?;
        Ok(FindingView {
            id: positive(0)?,
            first_ms,
            last_ms: first_ms,
            count: 1,
            kind: row.get(2)?,
            port: row.get(3)?,
            peer: row.get(4)?,
            user: row.get(5)?,
            program: row.get(6)?,
            action: row.get(7)?,
            rule: row
                .get::<_, Option<i64>>(8)?
                .and_then(|rule| usize::try_from(rule).ok()),
            told: row.get(9)?,
        })
    })?;
    rows.collect()
}

fn names(
    connection: &Connection,
    only: Option<&str>,
) -> rusqlite::Result<BTreeMap<i64, OriginHistory>> {
    let sql = "SELECT id, name FROM origin WHERE ?1 IS NULL OR name = ?1";
    let mut statement = connection.prepare(sql)?;
    let rows = statement.query_map([only], |row| {
        let name = row.get(1)?;
        let one = OriginHistory {
            name,
            ..OriginHistory::default()
        };
        Ok((row.get(0)?, one))
    })?;
    rows.collect()
}

/// For the origins that are asked for, so that the index is of use.
const WHOSE: &str = "origin IN (SELECT id FROM origin WHERE ?3 IS NULL OR name = ?3)";

/// Of a time and of a longer one, of rollups of the same length.
fn uptimes(
    connection: &Connection,
    (_, short): Window,
    (grain, long): Window,
    only: Option<&str>,
) -> rusqlite::Result<Vec<(i64, UptimeView, UptimeView)>> {
    let sql = format!(
        "SELECT origin, sum(observed_ms), sum(down_ms),
                sum(iif(at >= ?4, observed_ms, 0)), sum(iif(at >= ?4, down_ms, 0))
         FROM rollup WHERE grain = ?1 AND at >= ?2 AND {WHOSE} GROUP BY origin"
    );
    let mut statement = connection.prepare(&sql)?;
    let asked = params![number(grain), number(long), only, number(short)];
    let rows = statement.query_map(asked, |row| {
        let long = uptime(count(row, 1)?, count(row, 2)?);
        let short = uptime(count(row, 3)?, count(row, 4)?);
        Ok((row.get(0)?, short, long))
    })?;
    rows.collect()
}

fn days(
    connection: &Connection,
    since: u64,
    only: Option<&str>,
) -> rusqlite::Result<Vec<(i64, u64, UptimeView)>> {
    let sql = format!(
        "SELECT origin, at, observed_ms, down_ms FROM rollup
         WHERE grain = ?1 AND at >= ?2 AND {WHOSE} ORDER BY origin, at"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params![number(DAY), number(since), only], |row| {
        let uptime = uptime(count(row, 2)?, count(row, 3)?);
        Ok((row.get(0)?, count(row, 1)?, uptime))
    })?;
    rows.collect()
}

fn responses(
    connection: &Connection,
    (grain, since): Window,
    only: Option<&str>,
) -> rusqlite::Result<BTreeMap<i64, Times>> {
    let sql = format!(
        "SELECT origin, times FROM rollup
         WHERE grain = ?1 AND at >= ?2 AND {WHOSE} AND length(times) > 0"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params![number(grain), number(since), only])?;
    let mut all: BTreeMap<i64, Times> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let packed = row.get_ref(1)?.as_blob()?;
        all.entry(row.get(0)?).or_default().add(&unpack(packed));
    }
    Ok(all)
}

/// The median of each of the last minutes, up to this one.
fn minutes(
    connection: &Connection,
    now: u64,
    only: Option<&str>,
) -> rusqlite::Result<BTreeMap<i64, Vec<Option<f64>>>> {
    let sql = format!(
        "SELECT origin, at, times FROM rollup
         WHERE grain = ?1 AND at >= ?2 AND {WHOSE} AND length(times) > 0"
    );
    let first = now.saturating_sub(MINUTES - 1);
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query(params![number(MINUTE), number(first * MINUTE), only])?;
    let mut all: BTreeMap<i64, Vec<Option<f64>>> = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let minute = count(row, 1)? / MINUTE;
        let times = unpack(row.get_ref(2)?.as_blob()?);
        let none = || vec![None; usize::try_from(MINUTES).unwrap_or_default()];
        let recent = all.entry(row.get(0)?).or_insert_with(none);
        let at = usize::try_from(minute.saturating_sub(first)).unwrap_or(usize::MAX);
        if let Some(place) = recent.get_mut(at) {
            *place = response(&times).map(|times| times.p50_ms);
        }
    }
    Ok(all)
}

/// What was counted every ten seconds, where there was anything.
fn samples(
    connection: &Connection,
    since: u64,
    only: Option<&str>,
) -> rusqlite::Result<Vec<(i64, SampleView)>> {
    let sql = format!(
        "SELECT origin, at, down_ms, requests, failed, held, retried, lost, waiting, times FROM rollup
         WHERE grain = ?1 AND at >= ?2 AND {WHOSE} ORDER BY origin, at"
    );
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map(params![number(SAMPLE), number(since), only], |row| {
        let times = unpack(row.get_ref(9)?.as_blob()?);
        let sample = SampleView {
            time: moment::rfc3339(count(row, 1)?.saturating_mul(1000)),
            down_ms: count(row, 2)?,
            requests: count(row, 3)?,
            failed: count(row, 4)?,
            held: count(row, 5)?,
            retried: count(row, 6)?,
            lost: count(row, 7)?,
            waiting: count(row, 8)?,
            response: response(&times),
        };
        Ok((row.get(0)?, sample))
    })?;
    rows.collect()
}

fn losses(connection: &Connection, question: &HistoryQuestion) -> rusqlite::Result<Vec<LossView>> {
    let sql = "SELECT id, origin, scope, endpoint, layer, cause, blame, first_sign, silent_ms,
                   notice_ms, lasted_ms, took_over, took_over_ms, healed_by, held, retried, lost
               FROM loss WHERE (?1 IS NULL OR origin = ?1) AND (?3 IS NULL OR scope = ?3)
               ORDER BY id DESC LIMIT ?2";
    let limit = question.limit.unwrap_or(LOSSES).min(MOST);
    let mut statement = connection.prepare(sql)?;
    let asked = params![question.origin, limit, question.scope];
    let rows = statement.query_map(asked, |row| {
        Ok(LossView {
            id: count(row, 0)?,
            origin: row.get(1)?,
            scope: row.get(2)?,
            endpoint: row.get(3)?,
            layer: row.get(4)?,
            cause: row.get(5)?,
            blame: row.get(6)?,
            first_sign: moment::rfc3339(count(row, 7)?),
            first_sign_ms: count(row, 7)?,
            silent_ms: perhaps(row, 8)?,
            notice_ms: count(row, 9)?,
            lasted_ms: perhaps(row, 10)?,
            took_over: row.get(11)?,
            took_over_ms: perhaps(row, 12)?,
            healed_by: row.get(13)?,
            held: count(row, 14)?,
            retried: count(row, 15)?,
            lost: count(row, 16)?,
        })
    })?;
    rows.collect()
}

fn uptime(observed_ms: u64, down_ms: u64) -> UptimeView {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share is shown to some digits"
    )]
    let percent = (observed_ms > 0)
        .then(|| 100.0 * (1.0 - down_ms.min(observed_ms) as f64 / observed_ms as f64));
    UptimeView {
        observed_ms,
        down_ms,
        percent,
    }
}

/// Response times as they are shown.
pub(crate) fn response(times: &Times) -> Option<ResponseView> {
    let at = |part| Some(times.quantile(part)?.as_secs_f64() * 1000.0);
    Some(ResponseView {
        count: times.count(),
        p50_ms: at(0.5)?,
        p95_ms: at(0.95)?,
        p99_ms: at(0.99)?,
    })
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    Ok(perhaps(row, at)?.unwrap_or_default())
}

fn perhaps(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(at)?;
    Ok(value.and_then(|value| u64::try_from(value).ok()))
}

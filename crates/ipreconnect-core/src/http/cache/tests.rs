use std::time::Duration;

use proptest::prelude::*;

use super::super::{Parsed, RequestHead, ResponseHead};
use super::*;

/// 2026-11-21 20:00:00 UTC.
const NOW: u64 = 1_795_291_200;
const SECOND: Duration = Duration::from_secs(1);

fn request(fields: &str) -> (RequestHead, String) {
    let text = format!("GET /a HTTP/1.1\r\nHost: shop\r\n{fields}\r\n");
    let mut head = RequestHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(Parsed::Whole));
    (head, text)
}

fn response(status: u16, fields: &str) -> (ResponseHead, String) {
    let text = format!("HTTP/1.1 {status} Some\r\n{fields}\r\n");
    let mut head = ResponseHead::default();
    assert_eq!(head.parse(text.as_bytes()), Ok(Parsed::Whole));
    (head, text)
}

fn policy_for(asked: &str, status: u16, answered: &str) -> Option<Policy> {
    let (request, asked) = request(asked);
    let (response, answered) = response(status, answered);
    policy(&Stored {
        request: Fields::new(&request.fields, asked.as_bytes()),
        status,
        fields: Fields::new(&response.fields, answered.as_bytes()),
        now: NOW,
        delay: Duration::ZERO,
    })
}

fn policy_of(answered: &str) -> Option<Policy> {
    policy_for("", 200, answered)
}

/// How long it is fresh; none if it is not stored, or never fresh.
fn fresh_for(answered: &str) -> Option<u64> {
    match policy_of(answered)?.state(Duration::ZERO) {
        State::Fresh(left) => Some(left.as_secs()),
        State::Refreshable | State::Stale => None,
    }
}

fn date(text: &str) -> Option<u64> {
    http_date(text.as_bytes(), NOW)
}

#[test]
fn a_date_has_three_formats_and_no_other() {
    for text in [
        "Thu, 18 Aug 2050 02:01:18 GMT",
        "THU, 18 AUG 2050 02:01:18 gMT",
        "Thursday, 18-Aug-50 02:01:18 GMT",
        "Thu Aug 18 02:01:18 2050",
    ] {
        assert_eq!(date(text), Some(2_544_400_878), "{text}");
    }
    assert_eq!(date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(
        date("Thu Aug  8 02:01:18 2050"),
        date("Mon, 08 Aug 2050 02:01:18 GMT")
    );
    // Two digits are never more than 50 years ahead.
    assert_eq!(date("Sunday, 06-Nov-94 08:49:37 GMT"), Some(784_111_777));
    for text in [
        "0",
        "",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 31 Feb 2050 02:01:18 GMT",
        "Thu, 00 Feb 2050 02:01:18 GMT",
    ] {
        assert_eq!(date(text), None, "{text}");
    }
}

#[test]
fn an_answer_is_fresh_for_as_long_as_it_says() {
    for (fields, wanted) in [
        ("Cache-Control: max-age=60\r\n", Some(60)),
        ("Cache-Control: MaX-aGe=60\r\n", Some(60)),
        ("Cache-Control: max-age=0060\r\n", Some(60)),
        ("Cache-Control: max-age=\"60\"\r\n", Some(60)),
        ("Cache-Control: foo, max-age=60, bar=\"a, b\"\r\n", Some(60)),
        ("Cache-Control: max-age=60, s-maxage=9\r\n", Some(9)),
        (
            "Cache-Control: s-maxage=9\r\nCache-Control: max-age=1\r\n",
            Some(9),
        ),
        (
            "Cache-Control: max-age=99999999999999999999\r\n",
            Some(1 << 31),
        ),
        // What cannot be read, or is said in two ways, is no time at all.
        ("Cache-Control: max-age=60a\r\n", None),
        ("Cache-Control: max-age=6.5\r\n", None),
        ("Cache-Control: max-age='60'\r\n", None),
        ("Cache-Control: max-age=-60\r\n", None),
        ("Cache-Control: max-age\r\n", None),
        ("Cache-Control: max-age=60, max-age=1\r\n", None),
        ("Cache-Control: x=\"max-age=60\"\r\n", None),
        ("Cache-Control: max-age=60\r\nAge: 20\r\n", Some(40)),
        ("Cache-Control: max-age=60\r\nAge: 20, 0\r\n", Some(40)),
        (
            "Cache-Control: max-age=60\r\nAge: 0\r\nAge: 20\r\n",
            Some(60),
        ),
        ("Cache-Control: max-age=60\r\nAge: 20.0\r\n", Some(60)),
        ("Cache-Control: max-age=60\r\nAge: -20\r\n", Some(60)),
        ("Cache-Control: max-age=60\r\nAge: 2147483649\r\n", None),
        // It is older than it says.
        (
            "Cache-Control: max-age=60\r\nDate: Sat, 21 Nov 2026 19:59:30 GMT\r\n",
            Some(30),
        ),
        ("Expires: Sat, 21 Nov 2026 20:01:00 GMT\r\n", Some(60)),
        (
            "Expires: Sat, 21 Nov 2026 20:01:00 GMT\r\nDate: x\r\n",
            Some(60),
        ),
        ("Expires: 0\r\n", None),
        (
            "Expires: Sat, 21 Nov 2026 20:01:00 GMT\r\nExpires: 0\r\n",
            None,
        ),
        ("Cache-Control: max-age=60\r\nExpires: 0\r\n", Some(60)),
        // A tenth of the time that it did not change.
        ("Last-Modified: Sat, 21 Nov 2026 19:50:00 GMT\r\n", Some(60)),
        ("X: y\r\n", None),
    ] {
        assert_eq!(fresh_for(fields), wanted, "{fields}");
    }
}

#[test]
fn what_is_said_to_caches_before_the_origin_counts_more() {
    for (fields, wanted) in [
        (
            "CDN-Cache-Control: max-age=60\r\nCache-Control: no-store\r\n",
            Some(60),
        ),
        (
            "CDN-Cache-Control: foo, max-age=60;x=1\r\nExpires: 0\r\n",
            Some(60),
        ),
        (
            "CDN-Cache-Control: max-age=1\r\nCache-Control: max-age=60\r\n",
            Some(1),
        ),
        (
            "CDN-Cache-Control: no-store\r\nCache-Control: max-age=60\r\n",
            None,
        ),
        (
            "CDN-Cache-Control: private\r\nCache-Control: max-age=60\r\n",
            None,
        ),
        (
            "CDN-Cache-Control: no-cache\r\nCache-Control: max-age=60\r\n",
            None,
        ),
        (
            "CDN-Cache-Control: max-age=0\r\nExpires: Sat, 21 Nov 2026 20:01:00 GMT\r\n",
            None,
        ),
        // What is none of its kind is not there.
        (
            "CDN-Cache-Control: max-age=60, &&&\r\nCache-Control: max-age=5\r\n",
            Some(5),
        ),
        (
            "CDN-Cache-Control: max-age=\"60\"\r\nCache-Control: max-age=5\r\n",
            Some(5),
        ),
        (
            "CDN-Cache-Control: max-age=60,\r\nCache-Control: max-age=5\r\n",
            Some(5),
        ),
        (
            "CDN-Cache-Control: Max-Age=60\r\nCache-Control: max-age=5\r\n",
            Some(5),
        ),
        (
            "CDN-Cache-Control: \r\nCache-Control: max-age=5\r\n",
            Some(5),
        ),
        (
            "CDN-Cache-Control: a=(1 \"b\";c d), e=:YQ==:, f=?0, g=1.5, max-age=60\r\n",
            Some(60),
        ),
    ] {
        assert_eq!(fresh_for(fields), wanted, "{fields}");
    }
}

#[test]
fn what_is_not_for_others_is_not_stored() {
    let stored =
        |asked: &str, status: u16, fields: &str| policy_for(asked, status, fields).is_some();
    let long = "Cache-Control: max-age=60\r\n";
    assert!(stored("", 200, long));
    for status in [299, 303, 400, 404, 499, 500, 503, 599] {
        assert!(stored("", status, long), "{status}");
    }
    for status in [206, 304] {
        assert!(!stored("", status, long), "{status}");
    }
    for fields in [
        "Cache-Control: No-StOrE, max-age=60\r\n",
        "Cache-Control: private, max-age=60\r\n",
        "Cache-Control: max-age=60\r\nVary: *\r\n",
        "Cache-Control: max-age=60\r\nVary: a, *\r\n",
        "Cache-Control: max-age=60\r\nVary: X-Forwarded-For\r\n",
        "Cache-Control: max-age=0\r\n",
    ] {
        assert!(!stored("", 200, fields), "{fields}");
    }
    // One who is known by name has an answer of his own.
    let known = "Authorization: Basic x\r\n";
    assert!(!stored(known, 200, long));
    for open in ["public", "must-revalidate", "s-maxage=5"] {
        let fields = format!("Cache-Control: max-age=60, {open}\r\n");
        assert!(stored(known, 200, &fields), "{open}");
    }
    // Guesses are for statuses that are known for it, and not for cookies.
    let old = "Last-Modified: Fri, 20 Nov 2026 20:00:00 GMT\r\n";
    assert!(stored("", 404, old));
    assert!(!stored("", 403, old));
    assert!(stored("", 599, &format!("{old}Cache-Control: public\r\n")));
    assert!(!stored("", 200, &format!("{old}Set-Cookie: a=b\r\n")));
    assert!(!stored("", 200, &format!("{long}Set-Cookie: a=b\r\n")));
    let public = "Cache-Control: public, max-age=60\r\n";
    assert!(stored("", 200, &format!("{public}Set-Cookie: a=b\r\n")));
    let must = "Cache-Control: no-store, must-understand, max-age=60\r\n";
    assert!(stored("", 200, must));
    assert!(!stored("", 599, must));
}

#[test]
fn an_answer_that_is_late_is_good_only_where_that_is_allowed() {
    let ours = 10 * SECOND;
    let plain = policy_of("Cache-Control: max-age=5\r\n").unwrap();
    assert_eq!(plain.state(5 * SECOND), State::Stale);
    assert!(plain.covers_error(14 * SECOND, ours));
    assert!(!plain.covers_error(15 * SECOND, ours));
    let told = "Cache-Control: max-age=5, stale-while-revalidate=3, stale-if-error=4\r\n";
    let told = policy_of(told).unwrap();
    assert_eq!(told.state(7 * SECOND), State::Refreshable);
    assert_eq!(told.state(8 * SECOND), State::Stale);
    assert!(told.covers_error(8 * SECOND, ours));
    assert!(!told.covers_error(9 * SECOND, ours));
    assert!(told.covers_silence(9 * SECOND, ours));
    for strict in [
        "must-revalidate",
        "proxy-revalidate",
        "no-cache",
        "s-maxage=5",
    ] {
        let fields = format!(
            "ETag: \"a\"\r\nCache-Control: max-age=5, {strict}, stale-while-revalidate=9, stale-if-error=9\r\n"
        );
        let policy = policy_of(&fields).unwrap();
        assert_eq!(policy.state(6 * SECOND), State::Stale, "{strict}");
        assert!(!policy.covers_silence(6 * SECOND, ours), "{strict}");
    }
}

#[test]
fn an_answer_is_for_requests_that_say_the_same() {
    let varies = "Cache-Control: max-age=60\r\nVary: Foo, bar\r\nVary: Accept-Language\r\n";
    let asked = "Foo: 1, 2\r\nAccept-Language: en, de\r\n";
    let policy = policy_for(asked, 200, varies).unwrap();
    let matches = |asked: &str| {
        let (head, text) = request(asked);
        policy
            .variant()
            .matches(Fields::new(&head.fields, text.as_bytes()))
    };
    assert!(matches(asked));
    assert!(matches(
        "Accept-Language: EN,  De\r\nOther: x\r\nfoo:  1\r\nFoo: 2 \r\n"
    ));
    assert!(!matches("Foo: 1, 2\r\n"));
    assert!(!matches("Foo: 1\r\nAccept-Language: en, de\r\n"));
    assert!(!matches(&format!("{asked}Bar: \r\n")));
}

#[test]
fn a_client_is_told_if_it_has_the_answer_already() {
    let stored = "ETag: \"a\"\r\nLast-Modified: Sat, 21 Nov 2026 19:00:00 GMT\r\n";
    let (stored, stored_text) = response(200, stored);
    let is_unchanged = |asked: &str| {
        let (head, text) = request(asked);
        let request = Fields::new(&head.fields, text.as_bytes());
        let stored = Fields::new(&stored.fields, stored_text.as_bytes());
        condition(request, stored, NOW) == Condition::Unchanged
    };
    assert!(!is_unchanged(""));
    for tag in ["\"a\"", "W/\"a\"", "\"b,\", \"a\"", "*"] {
        assert!(is_unchanged(&format!("If-None-Match: {tag}\r\n")), "{tag}");
    }
    for tag in ["\"b\"", "a", "\"b, \\\"a\"", ""] {
        assert!(!is_unchanged(&format!("If-None-Match: {tag}\r\n")), "{tag}");
    }
    assert!(is_unchanged(
        "If-Modified-Since: Sat, 21 Nov 2026 19:00:00 GMT\r\n"
    ));
    assert!(is_unchanged(
        "If-Modified-Since: Saturday, 21-Nov-26 19:00:00 GMT\r\n"
    ));
    assert!(!is_unchanged(
        "If-Modified-Since: Sat, 21 Nov 2026 18:59:59 GMT\r\n"
    ));
    let both = "If-Modified-Since: Sat, 21 Nov 2026 19:00:00 GMT\r\nIf-None-Match: \"b\"\r\n";
    assert!(!is_unchanged(both), "the tag counts more");
}

#[test]
fn a_range_is_a_part_or_nothing_special() {
    for (range, wanted) in [
        ("bytes=0-1", Part::Bytes(0, 1)),
        ("bytes=1-", Part::Bytes(1, 9)),
        ("bytes=-3", Part::Bytes(7, 9)),
        ("bytes=-30", Part::Bytes(0, 9)),
        ("bytes=5-99", Part::Bytes(5, 9)),
        ("bytes=10-", Part::Missing),
        ("bytes=-0", Part::Missing),
        ("bytes=3-1", Part::Whole),
        ("bytes=0-1,3-4", Part::Whole),
        ("bytes=x-", Part::Whole),
        ("bytes=-", Part::Whole),
        ("lines=1-2", Part::Whole),
    ] {
        assert_eq!(part(range.as_bytes(), 10), wanted, "{range}");
    }
}

#[test]
fn a_stored_head_has_what_may_be_stored_and_takes_what_is_newer() {
    let (head, text) = response(
        200,
        "Connection: x-hop\r\nX-Hop: 1\r\nAge: 4\r\nProxy-Authenticate: no\r\nA: 1\r\nB: 2\r\nContent-Length: 9\r\nDate: d\r\n",
    );
    let fields = Fields::new(&head.fields, text.as_bytes());
    let stored = kept((200, b"Fine"), fields, &[b"b"[..].into()], 3, NOW);
    let wanted = "HTTP/1.1 200 Fine\r\nA: 1\r\nDate: d\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(String::from_utf8(stored.clone()).unwrap(), wanted);
    let mut head = ResponseHead::default();
    head.parse(&stored).unwrap();
    let (fresh, text) = response(304, "A: 2\r\nC: 3\r\nContent-Length: 7\r\nAge: 1\r\n");
    let merged = merged(
        (200, b"Fine"),
        Fields::new(&head.fields, &stored),
        Fields::new(&fresh.fields, text.as_bytes()),
        3,
        NOW,
    );
    let wanted = "HTTP/1.1 200 Fine\r\nA: 2\r\nC: 3\r\nDate: Sat, 21 Nov 2026 20:00:00 GMT\r\nContent-Length: 3\r\n\r\n";
    assert_eq!(String::from_utf8(merged).unwrap(), wanted);
}

#[test]
fn a_change_makes_void_what_its_answer_names_of_the_same_host() {
    let named = |fields: &str| -> Vec<String> {
        let (head, text) = response(201, fields);
        let fields = Fields::new(&head.fields, text.as_bytes());
        let targets = voided(fields, b"Shop", b"/a/b?c").into_iter();
        targets
            .map(|target| String::from_utf8(target).unwrap())
            .collect()
    };
    assert_eq!(
        named("Location: /x?y\r\nContent-Location: z#f\r\n"),
        ["/x?y", "/a/z"]
    );
    assert_eq!(named("Location: ../z?q\r\n"), ["/z?q"]);
    assert_eq!(named("Location: ?q\r\n"), ["/a/b?q"]);
    assert_eq!(named("Location: http://shop\r\n"), ["/"]);
    assert!(named("Location: http://other/x\r\n").is_empty());
}

proptest! {
    #[test]
    fn a_date_that_is_written_is_read(at in 0..10_000_000_000_u64) {
        prop_assert_eq!(http_date(write_date(at).as_bytes(), NOW), Some(at));
    }

    #[test]
    fn nothing_that_a_server_says_is_too_much(
        value in "[ -~]{0,60}",
        name in "(cache-control|cdn-cache-control|expires|age|vary|date|last-modified|etag)",
        status in 200..599_u16,
    ) {
        let fields = format!("{name}: {value}\r\nCache-Control: max-age=5\r\n");
        if let Some(policy) = policy_for("", status, &fields) {
            // It never gets younger, and what is stale stays so.
            let mut was_stale = false;
            for resident in 0..20 {
                let is_stale = policy.state(resident * SECOND) == State::Stale;
                prop_assert!(is_stale || !was_stale);
                was_stale = is_stale;
            }
        }
    }

    #[test]
    fn nobody_is_kept_longer_than_the_shortest_that_was_said(
        shared in 0..100_u64, own in 0..100_u64, age in 0..100_u64,
    ) {
        let fields = format!("Cache-Control: max-age={own}, s-maxage={shared}\r\nAge: {age}\r\n");
        let left = shared.saturating_sub(age);
        prop_assert_eq!(fresh_for(&fields), (left > 0).then_some(left));
    }

    #[test]
    fn a_part_is_within_the_whole(range in "bytes=[0-9]{0,4}-[0-9]{0,4}", length in 0..5000_u64) {
        if let Part::Bytes(first, last) = part(range.as_bytes(), length) {
            prop_assert!(first <= last && last < length);
        }
    }
}

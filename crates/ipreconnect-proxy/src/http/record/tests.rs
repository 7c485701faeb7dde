use super::*;
use ipreconnect::core::http::{Parsed, Role};

fn line(request: &[u8], format: AccessFormat) -> String {
    let mut head = RequestHead::default();
    assert_eq!(head.parse(request), Ok(Parsed::Whole));
    let began = clock::now();
    let mut record = Record::new(began, "HTTP/1.1");
    record.status = 200;
    record.bytes_out = 1024;
    record.sent = 2;
    record.connected = Some(Duration::from_micros(50));
    record.first_byte = Some(Duration::from_micros(1_234_567));
    record.endpoint = Shown::new("192.0.2.7:80");
    record.end = End::by(Who::Client, When::Data);
    told(request, &head, &record, format)
}

fn told(request: &[u8], head: &RequestHead, record: &Record, format: AccessFormat) -> String {
    let subject = Subject {
        scheme: "http",
        listener: "shop",
        origin: "web",
        from: "198.51.100.3",
        head,
        text: request,
    };
    let said = said(record, &subject);
    let mut out = Vec::new();
    let now = record.began + Duration::from_millis(2000);
    match format {
        AccessFormat::Json => json(&mut out, "2026-11-21T20:30:33", 7, now, record, &said),
        AccessFormat::Combined => {
            combined(&mut out, "21/Nov/2026:20:30:33 +0000", record, &said);
        }
        AccessFormat::Squid => squid(&mut out, (1_795_293_033, 7), now, record, &said),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_of_json_tells_everything() {
    let request = b"GET /a?b=\"c\" HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\n\r\n";
    assert_eq!(
        line(request, AccessFormat::Json),
        "{\"time\":\"2026-11-21T20:30:33.007Z\",\"listener\":\"shop\",\"client\":\"198.51.100.3\",\"method\":\"GET\",\"host\":\"shop.example\",\"target\":\"/a?b=\\\"c\\\"\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"bytes_in\":0,\"bytes_out\":1024,\"origin\":\"web\",\"endpoint\":\"192.0.2.7:80\",\"sent\":2,\"connect_ms\":0.050,\"first_byte_ms\":1234.567,\"total_ms\":2000.000,\"end\":\"CD--\"}\n"
    );
}

#[test]
fn a_combined_line_is_what_programs_know() {
    let request = "GET /ä HTTP/1.0\r\nUser-Agent: a\\b\"\tc\r\n\r\n".as_bytes();
    assert_eq!(
        line(request, AccessFormat::Combined),
        "198.51.100.3 - - [21/Nov/2026:20:30:33 +0000] \"GET /ä HTTP/1.0\" 200 1024 \"-\" \"a\\\\b\\\"\\u0009c\"\n"
    );
}

#[test]
fn a_line_of_squid_is_what_its_programs_read() {
    let request = b"GET http://shop.example/a HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    assert_eq!(
        line(request, AccessFormat::Squid),
        "1795293033.007   2000 198.51.100.3 TCP_MISS/200 1024 GET http://shop.example/a - HIER_DIRECT/192.0.2.7 -\n"
    );
    let request = b"CONNECT ads.example:443 HTTP/1.1\r\nHost: ads.example\r\n\r\n";
    let mut head = RequestHead::default();
    assert_eq!(head.parse_for(Role::Forward, request), Ok(Parsed::Whole));
    let mut record = Record::new(clock::now(), "HTTP/1.1");
    record.status = 403;
    *record.journey() = Journey {
        user: "a nn".into(),
        decision: "denied",
        why: Some("it is blocked by `ads.example`".into()),
        found: None,
        via: None,
    };
    let shown = |format| told(request, &head, &record, format);
    assert_eq!(
        shown(AccessFormat::Squid),
        "1795293033.007   2000 198.51.100.3 TCP_DENIED/403 0 CONNECT ads.example:443 a_nn HIER_NONE/- -\n"
    );
    let json = shown(AccessFormat::Json);
    let wanted = "\"user\":\"a nn\",\"method\":\"CONNECT\",\"host\":\"ads.example:443\",\"target\":\"ads.example:443\",";
    assert!(json.contains(wanted), "{json}");
    let wanted = "\"decision\":\"denied\",\"rule\":\"it is blocked by `ads.example`\",";
    assert!(json.contains(wanted), "{json}");
}

#[test]
fn days_are_counted_as_the_calendar_does() {
    assert_eq!(date(0), (1970, 1, 1));
    assert_eq!(date(11_016), (2000, 2, 29));
    assert_eq!(date(20_778), (2026, 11, 21));
    assert_eq!(date(47_540), (2100, 2, 28));
    assert_eq!(date(47_541), (2100, 3, 1));
}

#[test]
fn an_address_that_is_too_long_is_cut() {
    let long = format!("unix:/{}", "x".repeat(100));
    assert_eq!(Shown::new(&long).as_bytes().len(), 54);
    assert_eq!(Shown::new("127.0.0.1:80").as_bytes(), b"127.0.0.1:80");
}

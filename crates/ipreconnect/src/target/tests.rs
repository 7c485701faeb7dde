use super::*;

#[test]
fn what_people_write() {
    for (text, shown) in [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("[::1]:80", "[::1]:80"),
        ("db.internal:5432", "db.internal:5432"),
        ("tcp://db_1.internal.:5432", "db_1.internal.:5432"),
        ("unix:/run/x.sock", "unix:/run/x.sock"),
        ("udp://[::1]:53", "[::1]:53/udp"),
        ("udp://resolver.internal:53", "resolver.internal:53/udp"),
        ("srv:_db._tcp.internal", "srv:_db._tcp.internal"),
        ("srv:_sip._udp.internal.", "srv:_sip._udp.internal."),
        ("tcp://srv:5432", "tcp://srv:5432"),
    ] {
        assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
    }
}

#[test]
fn what_cannot_be_understood() {
    for (text, error) in [
        ("", TargetError::NoPort),
        ("host", TargetError::NoPort),
        ("::1", TargetError::NoPort),
        ("host:", TargetError::BadPort),
        ("host:0", TargetError::BadPort),
        ("host:65536", TargetError::BadPort),
        ("host:http", TargetError::BadPort),
        (":80", TargetError::BadHost),
        ("a b:80", TargetError::BadHost),
        ("[host]:80", TargetError::BadHost),
        ("a..b:80", TargetError::BadHost),
        ("unix:x.sock", TargetError::BadPath),
        ("srv:", TargetError::BadService),
        ("srv:db.internal", TargetError::BadService),
        ("srv:_db._tcp", TargetError::BadService),
        ("srv:_db._sctp.internal", TargetError::BadService),
        ("srv:_db._tcp.internal:5432", TargetError::BadService),
        ("srv:_._tcp.internal", TargetError::BadService),
    ] {
        assert_eq!(text.parse::<Target>(), Err(error), "{text:?}");
    }
    let long = format!("unix:/{}", "x".repeat(200));
    assert_eq!(long.parse::<Target>(), Err(TargetError::BadPath));
}

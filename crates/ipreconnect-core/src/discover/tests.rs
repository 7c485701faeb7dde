use std::time::Duration;

use super::*;

fn settings(of: &[(&str, &str)]) -> Vec<Setting> {
    let setting = |(path, value): &(&str, &str)| Setting {
        path: (*path).to_owned(),
        value: (*value).to_owned(),
        place: "x".to_owned(),
    };
    of.iter().map(setting).collect()
}

/// Name and where, of what one setting names.
fn named(path: &str, value: &str) -> Vec<String> {
    let found = mentions(&settings(&[(path, value)]));
    found.iter().map(shown).collect()
}

fn shown(one: &Mention) -> String {
    let port = one.port.map_or("srv".to_owned(), |port| port.to_string());
    format!(
        "{} {}:{port} {}",
        one.name,
        one.host,
        one.scheme.as_deref().unwrap_or("-")
    )
}

#[test]
fn servers_are_found_however_they_are_written() {
    for (path, value, wanted) in [
        (
            "DATABASE_URL",
            "postgres://app:s3cret@db.internal/orders",
            vec!["database db.internal:5432 postgres"],
        ),
        (
            "ORDERS_DB_URL",
            "postgresql+asyncpg://app@[2001:db8::1]:6432/x",
            vec!["orders-db 2001:db8::1:6432 postgresql"],
        ),
        (
            "spring.datasource.url",
            "jdbc:postgresql://pg-1:5432,pg-2:5433/x?user=a",
            vec![
                "datasource pg-1:5432 postgresql",
                "datasource-2 pg-2:5433 postgresql",
            ],
        ),
        (
            "app.jdbcUrl",
            "jdbc:sqlserver://sql.corp:1433;databaseName=x",
            vec!["app sql.corp:1433 sqlserver"],
        ),
        (
            "url",
            "jdbc:oracle:thin:@//ora.corp:1521/svc",
            vec!["ora ora.corp:1521 -"],
        ),
        (
            "DSN",
            "user:pa@ss@tcp(mysql.corp:3306)/orders",
            vec!["mysql mysql.corp:3306 -"],
        ),
        (
            "MONGO_URI",
            "mongodb+srv://u:p@cluster0.example.net/db",
            vec!["mongo cluster0.example.net:srv mongodb+srv"],
        ),
        (
            "REDIS_URL",
            "rediss://:pass@cache:6380/0",
            vec!["redis cache:6380 rediss"],
        ),
        (
            "PAYMENTS_BASE_URL",
            "https://api.pay.example/v1",
            vec!["payments api.pay.example:443 https"],
        ),
        (
            "KAFKA_BROKERS",
            "k1.corp:9092,k2.corp:9092",
            vec!["kafka k1.corp:9092 -", "kafka-2 k2.corp:9092 -"],
        ),
        (
            "conn",
            "host=db port=6543 dbname=x password='host=evil'",
            vec!["conn db:6543 -"],
        ),
        (
            "ConnectionStrings.Orders",
            "Server=tcp:sql.corp,1533;Initial Catalog=x;Password=p;",
            vec!["orders sql.corp:1533 -"],
        ),
        ("a", "Host=pg.corp;Database=x", vec!["a pg.corp:5432 -"]),
        (
            "SEARCH_ADDR",
            "10.0.0.7:9200",
            vec!["search 10.0.0.7:9200 -"],
        ),
    ] {
        assert_eq!(named(path, value), wanted, "{path}={value}");
    }
}

#[test]
fn what_only_looks_like_a_server_is_none() {
    for (path, value) in [
        ("image", "postgres:16"),
        ("services.db.image", "registry.corp:5000/db:1"),
        ("START", "12:30"),
        ("PATH", "/usr/bin:/bin"),
        ("TEXT", "see also: nothing, or host:x"),
        ("FILE", "file:///etc/x"),
        ("DB", "sqlite:///x.db"),
        ("LISTEN", "0.0.0.0:8080"),
        ("server.bind", "10.0.0.1:80"),
        ("URL", "http://0.0.0.0:80/"),
        ("URL", "http://${HOST}/"),
        ("URL", "http:///x"),
        ("A", "a:0"),
        ("A", "a:65536"),
        ("$schema", "https://json.example/x"),
        ("NO_PROXY", "a.corp:80"),
        ("ports", "5432:5432"),
        ("V", "node:18"),
        ("EMPTY", ""),
    ] {
        assert_eq!(named(path, value), Vec::<String>::new(), "{path}={value}");
    }
}

#[test]
fn host_and_port_that_stand_beside_each_other_are_one() {
    let of = |all: &[(&str, &str)]| {
        mentions(&settings(all))
            .iter()
            .map(shown)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(&[("DB_HOST", "db.corp"), ("DB_PORT", "6000")]),
        ["db db.corp:6000 -"]
    );
    assert_eq!(
        of(&[("db.host", "db.corp"), ("db.port", "6000")]),
        ["db db.corp:6000 -"]
    );
    assert_eq!(of(&[("PGHOST", "db.corp")]), ["pg db.corp:5432 -"]);
    assert_eq!(of(&[("redis.hostName", "r.corp")]), ["redis r.corp:6379 -"]);
    assert_eq!(of(&[("HOST", "0.0.0.0"), ("PORT", "80")]), [""; 0]);
    assert_eq!(
        of(&[("SOME_HOST", "db.corp")]),
        [""; 0],
        "nobody knows the port"
    );
}

#[test]
fn one_server_is_named_once_and_no_secret_is_kept() {
    let all = mentions(&settings(&[
        ("DATABASE_URL", "postgres://app:s3cret@db:5432/a"),
        ("READ_URL", "postgres://app:0ther@db:5432/b"),
        ("OTHER", "DB:5432"),
    ]));
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].places.len(), 3);
    let told = format!("{all:?}");
    assert!(
        !told.contains("s3cret") && !told.contains("0ther") && !told.contains("app"),
        "{told}"
    );
}

#[test]
fn a_secret_that_looks_like_a_server_is_none() {
    for path in [
        "PASSWORD",
        "db.password",
        "ORDERS_API_TOKEN",
        "CLIENT_SECRET",
        "SIGNING_KEY",
    ] {
        assert!(named(path, "foo.bar:1234").is_empty(), "{path}");
    }
    assert_eq!(named("TOKEN_SERVER", "foo.bar:1234").len(), 1);
}

#[test]
fn a_secret_that_is_written_wrongly_is_not_taken_for_a_server() {
    for value in [
        "postgres://app:1234#x@db.corp:5432/a",
        "postgres://app:1234/x@db.corp:5432/a",
        "redis://:99?9@cache:6379",
        "https://app:1234#x@api.example",
        "amqp://1234;x@queue.corp",
        "postgres://bob:47'11@db.corp/a",
        "postgres://bob:47\"11@db.corp/a",
        "https://bob:4711/x@host.corp",
    ] {
        let told = named("URL", value).join(" ");
        assert!(
            !told.contains("1234")
                && !told.contains("99")
                && !told.contains("47")
                && !told.contains("bob"),
            "{value}: {told}"
        );
    }
    for (value, wanted) in [
        ("https://npm.corp/@scope/x", "pkg npm.corp:443 https"),
        (
            "https://npm.corp:8443/react@18.2",
            "pkg npm.corp:8443 https",
        ),
        (
            "'postgres://db.corp:5432/a' # ask admin@corp.example",
            "pkg db.corp:5432 postgres",
        ),
    ] {
        assert_eq!(named("PKG", value), [wanted], "{value}");
    }
}

#[test]
fn lists_of_urls_are_read_whole() {
    for value in [
        "http://es1:9200,http://es2:9200",
        "http://es1:9200/, http://u:p@es2:9200/",
        "http://u:p@es1:9200,http://u:p@es2:9200",
    ] {
        let all = named("SEARCH_URLS", value);
        assert_eq!(all.len(), 2, "{value}: {all:?}");
        assert!(
            all[0].contains("es1:9200") && all[1].contains("es2:9200"),
            "{all:?}"
        );
    }
    assert_eq!(named("DB", "mongodb://u:p@a.corp:1,b.corp:2/x").len(), 2);
}

#[test]
fn who_comes_is_not_taken_for_a_server() {
    for path in [
        "BASIC_AUTH",
        "admin.credentials",
        "ADMIN_PASSWORD_DEFAULT",
        "apiToken",
        "SESSION_KEY",
        "user",
        "HTTP_CREDS",
        "BASICAUTH",
    ] {
        assert!(named(path, "admin:12345").is_empty(), "{path}");
    }
    for path in [
        "AUTH_SERVER",
        "USER_SERVICE",
        "token.endpoint",
        "KEYCLOAK",
        "upstreams.auth",
        "TOKEN_SERVICE",
    ] {
        assert_eq!(named(path, "auth.corp:8080").len(), 1, "{path}");
    }
}

#[test]
fn hostile_settings_end_soon() {
    let long = "a://".repeat(4000);
    assert!(mentions(&settings(&[("X", &long)])).is_empty());
    let many: Vec<(String, String)> = (0..5000)
        .map(|n| (format!("K{n}"), format!("http://h{n}.example:{}", n + 80)))
        .collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(mentions(&settings(&many)).len(), 2000);
    for odd in [
        "://",
        "a://@",
        "a://:80",
        "a://[",
        "[]:80",
        "[::1]80",
        "host=",
        "@tcp(:1)",
        "\u{202e}://x",
        "a://b:-1",
    ] {
        assert_eq!(named("X", odd), Vec::<String>::new(), "{odd}");
    }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn what_is_held_open_or_comes_back_looks_required() {
    let mut held = Observed::default();
    held.opened(at(1));
    assert!(held.why(at(60)).is_required());
    assert_eq!(
        held.why(at(60)).words(),
        "connected at the start, held open"
    );
    let mut lost = Observed::default();
    lost.opened(at(1));
    lost.ended(at(20));
    lost.opened(at(22));
    lost.ended(at(23));
    let why = lost.why(at(60));
    assert!(why.is_required() && !why.held, "{why:?}");
    let mut now_and_then = Observed::default();
    for when in [15, 30, 45] {
        now_and_then.opened(at(when));
        now_and_then.ended(at(when + 1));
    }
    assert!(!now_and_then.why(at(60)).is_required());
    assert_eq!(now_and_then.connections(), 3);
    let mut once = Observed::default();
    once.opened(at(2));
    once.ended(at(3));
    assert!(!once.why(at(60)).is_required());
    // More ends than beginnings were seen.
    once.ended(at(4));
    assert_eq!(Observed::default().why(at(0)), Why::default());
}

//! What origins and listeners of HTTP say.

use ipreconnect::core::question::Question;
use ipreconnect_proxy::{AskedHost, CacheSettings, Chain, HashOn, Hedge};

use super::*;

const WEB: &str = "[origin.web]\naddress = [\"http://a.internal\", \"http://b.internal:8080\"]\n";

fn with(lines: &str) -> Plan {
    plan(&format!(
        "{WEB}[origin.api]\naddress = \"https://api.example\"\n\
         [[listen]]\nname = \"l\"\naddress = \"127.0.0.1:1\"\norigin = \"web\"\n{lines}\n"
    ))
}

#[test]
fn an_origin_of_http_has_the_documented_defaults() {
    let plan = with("");
    let web = &plan.origins["web"];
    assert_eq!(web.protocol, Protocol::Http);
    assert_eq!(web.settings.warm.connections, 2);
    assert_eq!(web.http.attempts, 3);
    assert_eq!(web.http.hedge, Hedge::Suspect);
    assert_eq!(web.http.first_byte, Duration::from_secs(60));
    assert_eq!(web.http.host, AskedHost::Client);
    let places: Vec<String> = web
        .settings
        .places
        .iter()
        .map(|place| place.target.to_string())
        .collect();
    assert_eq!(places, ["a.internal:80", "b.internal:8080"]);
    // TLS is verified for a name, and that name is asked for.
    let api = &plan.origins["api"];
    assert!(api.settings.tls.is_some());
    assert_eq!(api.http.host, AskedHost::Fixed("api.example".into()));
    assert_eq!(api.settings.places[0].target.to_string(), "api.example:443");
    assert_eq!(plan.listeners["l"].mode, Protocol::Http);
}

#[test]
fn requests_go_by_what_is_said() {
    let plan = plan(
        "[origin.a]\naddress = \"h:1\"\nprotocol = \"http\"\nhost = \"other.example\"\nbalance = \"hash\"\nhash_on = \"cookie:who\"\n\
         retry = { attempts = 1, budget = 0.5, hedge = \"off\" }\ntimeouts = { first_byte = \"1s\", idle = \"2s\" }\n\
         pool = { warm = 0, idle = \"3s\", max = 7 }\nhold.bytes = \"1MiB\"\n",
    );
    let http = &plan.origins["a"].http;
    assert_eq!(http.pool_max, Some(7));
    assert_eq!(http.hold_bytes, 1024 * 1024);
    assert_eq!(http.attempts, 1);
    assert!((http.budget - 0.5).abs() < 1e-9);
    assert_eq!(http.hedge, Hedge::Off);
    assert_eq!(http.host, AskedHost::Fixed("other.example".into()));
    assert_eq!(http.hash_on, HashOn::Cookie("who".into()));
    let durations = [http.first_byte, http.idle, http.pool_idle];
    assert_eq!(durations, [1, 2, 3].map(Duration::from_secs));
    assert_eq!(plan.origins["a"].settings.warm.connections, 0);
}

#[test]
fn a_listener_may_speak_http_before_an_origin_of_tcp_and_tcp_before_one_of_http() {
    for (origin, mode, wanted) in [
        ("h:1", "http", Protocol::Http),
        ("http://h:1", "tcp", Protocol::Tcp),
    ] {
        let plan = plan(&format!(
            "[origin.a]\naddress = \"{origin}\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\nmode = \"{mode}\"\n"
        ));
        assert_eq!(plan.listeners["a"].mode, wanted);
    }
}

#[test]
fn routes_are_shown_as_they_are_read() {
    let plan = with(
        "limits = { body = \"10MiB\", idle = \"5s\", rate = \"30/m\", burst = 7, requests = 100, streams = 9, body_rate = \"1KiB\" }\nforwarded = { trust = [\"loopback\", \"10.0.0.0/8\"], chain = \"append\", standard = true }\n\
         [[listen.route]]\npath = [\"/api/\", \"= /x\"]\nmethod = \"GET\"\nheader = { x-beta = \"1\" }\n\
         split = [{ origin = \"api\", weight = 9 }, { origin = \"web\" }]\nsticky = \"cookie:v\"\n\
         [[listen.route]]\nhost = \"pay.example\"\norigin = \"web\"\nrequires = [\"api\"]\nmirror = \"api\"\n\
         [[listen.route]]\norigin = \"web\"",
    );
    let listener = &plan.listeners["l"];
    let limits = &listener.limits;
    assert_eq!(limits.body, 10 * 1024 * 1024);
    assert_eq!((limits.requests, limits.streams), (100, 9));
    assert_eq!(limits.body_rate, 1024);
    let rate = limits.rate.unwrap();
    assert_eq!((rate.interval, rate.burst), (Duration::from_secs(2), 7));
    assert_eq!(listener.routes[1].mirror.as_deref(), Some("api"));
    assert_eq!(listener.limits.idle, Duration::from_secs(5));
    assert_eq!(listener.forwarding.trust.len(), 3);
    assert_eq!(listener.forwarding.chain, Chain::Appended);
    assert!(listener.forwarding.standard);
    assert_eq!(
        listener.routes[0].split,
        [("api".to_owned(), 9), ("web".to_owned(), 1)]
    );
    assert_eq!(listener.routes[0].sticky.as_deref(), Some("v"));
    let shown = show(&plan).text();
    for words in [
        "  GET  /api, = /x  with x-beta -> origins by weight: api (9), web (1)\n",
        "  pay.example -> origin web, while api is up\n",
        "  everything -> origin web\n",
        "  everything else -> origin web\n",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
}

#[test]
fn a_changed_branch_reroutes_its_listener() {
    let text = |attempts: u32| {
        format!(
            "[origin.web]\naddress = \"http://h\"\n[origin.api]\naddress = \"http://i\"\nretry.attempts = {attempts}\n\
             [[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"web\"\n\
             [[listen.route]]\npath = \"/\"\nsplit = [{{ origin = \"web\" }}, {{ origin = \"api\" }}]\n"
        )
    };
    let changes = diff(&plan(&text(2)), &plan(&text(4)));
    let rerouted = Change::ListenerRerouted("web".to_owned());
    assert!(changes.contains(&rerouted), "{changes:?}");
}

#[test]
fn answers_are_judged_where_they_are_understood() {
    let passive = |lines: &str| {
        let plan = plan(&format!("[origin.a]\n{lines}\n"));
        let passive = plan.origins["a"].settings.supervisor.passive;
        passive.map(|passive| (passive.max_ejected * 100.0).round() as u32)
    };
    assert_eq!(passive("address = \"http://h\""), Some(50));
    assert_eq!(
        passive("address = \"h2c://h\"\nhealth.interval = \"1s\""),
        Some(50)
    );
    assert_eq!(passive("address = \"h:1\""), None);
    assert_eq!(
        passive("address = \"http://h\"\nhealth.passive = false"),
        None
    );
    assert_eq!(
        passive("address = \"http://h\"\nhealth = { passive = true, max_ejected = 0.3 }"),
        Some(30)
    );
}

/// What an origin is asked by its health check.
fn question(lines: &str) -> Question {
    let plan = plan(&format!("[origin.a]\n{lines}\n"));
    match plan.origins["a"].settings.supervisor.check.clone() {
        Check::Question(question) => question,
        check => panic!("{check:?}"),
    }
}

#[test]
fn a_check_asks_for_a_page() {
    for (lines, host, is_h2) in [
        ("address = [\"http://a\", \"http://b\"]", None, false),
        (
            "address = \"http://shop.internal\"",
            Some("shop.internal"),
            false,
        ),
        (
            "address = \"https://api.example\"",
            Some("api.example"),
            false,
        ),
        (
            "address = \"h2c://h:1\"\nhost = \"client\"",
            Some("h:1"),
            true,
        ),
        (
            "address = \"h2://h\"\nhost = \"other\"",
            Some("other"),
            true,
        ),
        ("address = \"h:1\"", Some("h:1"), false),
    ] {
        let lines = format!("{lines}\nhealth = {{ check = \"http:/a?b\", status = \"200, 404\" }}");
        let Question::Http(question) = question(&lines) else {
            panic!("{lines}")
        };
        assert_eq!(&*question.path, "/a?b");
        assert_eq!(
            (question.host.as_deref(), question.is_h2),
            (host, is_h2),
            "{lines}"
        );
        let good = [200, 404, 204].map(|status| question.good.contains(status));
        assert_eq!(good, [true, true, false]);
    }
    let Question::Http(plain) = question("address = \"http://h\"\nhealth.check = \"http:/\"")
    else {
        panic!()
    };
    assert!(plain.good.contains(399) && !plain.good.contains(400));
}

#[test]
fn a_check_sends_words() {
    for (check, send, expect) in [
        (
            r#""send:PING\r\n expect:+PONG""#,
            &b"PING\r\n"[..],
            &b"+PONG"[..],
        ),
        (r#"'send:PING\r\n expect:+PONG'"#, b"PING\r\n", b"+PONG"),
        (r#"'send: expect:220 '"#, b"", b"220 "),
        (
            r#"'send:\x00\xfF\\\t expect:a expect:b'"#,
            b"\x00\xff\\\t",
            b"a expect:b",
        ),
    ] {
        let Question::Words(words) =
            question(&format!("address = \"h:1\"\nhealth.check = {check}"))
        else {
            panic!("{check}")
        };
        assert_eq!((&*words.send, &*words.expect), (send, expect), "{check}");
    }
}

#[test]
fn a_route_keeps_answers_as_it_says() {
    let route = |cache: &str| {
        let plan = with(&format!(
            "[[listen.route]]\npath = \"/a\"\norigin = \"web\"\n{cache}"
        ));
        plan.listeners["l"].routes[0].cache
    };
    assert_eq!(route(""), None);
    assert_eq!(route("cache = false"), None);
    assert_eq!(route("cache = true"), Some(CacheSettings::default()));
    let table = "cache = { size = \"1MiB\", stale_if_error = \"0s\" }";
    let wanted = CacheSettings {
        size: 1024 * 1024,
        object: 256 * 1024,
        stale_if_error: Duration::ZERO,
        disk: 0,
    };
    assert_eq!(route(table), Some(wanted));
    let object = route("cache = { object = \"1KiB\" }").map(|cache| cache.object);
    assert_eq!(object, Some(1024));
}

#[test]
fn a_cache_that_cannot_be_is_refused() {
    for (cache, why) in [
        ("cache = 5", "must be true, false or a table"),
        ("cache = { size = \"0B\" }", "must be more than nothing"),
        (
            "cache = { size = \"1MiB\", object = \"2MiB\" }",
            "is more than `size`",
        ),
        ("cache = { sise = \"1MiB\" }", "size"),
        ("cache = { disk = \"/x\" }", "size"),
    ] {
        let text = format!(
            "{WEB}[[listen]]\nname = \"l\"\naddress = \"127.0.0.1:1\"\n[[listen.route]]\npath = \"/a\"\norigin = \"web\"\n{cache}\n"
        );
        let mistakes = read(&text).unwrap_err().to_string();
        assert!(mistakes.contains(why), "{cache}: {mistakes}");
    }
}

#[test]
fn what_belongs_to_a_connection_is_nobodys_to_set() {
    let text = |rewrite: &str| {
        format!(
            "[origin.web]\naddress = \"http://h\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"web\"\n\
             [[listen.route]]\npath = \"/\"\norigin = \"web\"\nrewrite = {{ {rewrite} }}\n"
        )
    };
    for name in ["keep-alive", "TE", "proxy-connection", "host"] {
        let mistakes = read(&text(&format!("response_set = {{ {name} = \"x\" }}")));
        let told = mistakes.unwrap_err().to_string();
        assert!(told.contains("cannot change"), "{told}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("x-{n} = \"1\"")).collect();
    let mistakes = read(&text(&format!("set = {{ {} }}", many.join(", "))));
    let told = mistakes.unwrap_err().to_string();
    assert!(told.contains("at most 32 headers"), "{told}");
}

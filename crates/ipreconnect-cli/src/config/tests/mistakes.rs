//! Every mistake: its place, its words, its suggestion.

use super::*;

/// What a file is told, one line a mistake, with the hint behind it.
fn told(text: &str) -> Vec<String> {
    let (directory, loaded) = directory(&[("c.toml", text)]);
    let mistakes = loaded.expect_err("there must be a mistake");
    let place = format!("{}/", directory.path().display());
    let rendered = mistakes.render(Colour::No).replace(&place, "");
    let mut lines: Vec<String> = Vec::new();
    for line in rendered.lines() {
        if let Some(error) = line.strip_prefix("error at c.toml:") {
            lines.push(error.to_owned());
        } else if let Some(error) = line.strip_prefix("error: ") {
            lines.push(error.to_owned());
        } else if let (Some(hint), Some(last)) = (line.strip_prefix("  hint: "), lines.last_mut()) {
            last.push_str(" | ");
            last.push_str(hint);
        }
    }
    lines
}

/// Mistakes in an origin that is otherwise right.
fn origin(lines: &str) -> Vec<String> {
    told(&format!("[origin.a]\naddress = \"h:1\"\n{lines}\n"))
}

/// Mistakes in a listener that is otherwise right.
fn listen(lines: &str) -> Vec<String> {
    told(&format!(
        "[origin.a]\naddress = \"h:1\"\n[[listen]]\norigin = \"a\"\n{lines}\n"
    ))
}

#[track_caller]
fn only(told: &[String], expected: &str) {
    assert_eq!(told, [expected]);
}

#[test]
fn words_that_are_nearly_right() {
    only(
        &origin("requierd = true"),
        "3:1: unknown key `requierd` in `origin.a` | did you mean `required`?",
    );
    only(
        &origin("balance = \"roundrobin\""),
        "3:11: `origin.a.balance` cannot be \"roundrobin\" | did you mean `round-robin`?",
    );
    only(
        &origin("health = { on_down = \"closed\" }"),
        "3:22: `origin.a.health.on_down` cannot be \"closed\" | did you mean `close`?",
    );
    only(
        &origin("reconnect = { jitter = \"ful\" }"),
        "3:24: `origin.a.reconnect.jitter` cannot be \"ful\" | did you mean `full`?",
    );
    only(
        &told("[gatway]\n"),
        "1:2: unknown key `gatway` | did you mean `gateway`?",
    );
    only(
        &told("[log]\nlevel = \"warning\"\n"),
        "2:9: `log.level` cannot be \"warning\" | did you mean `warn`?",
    );
}

#[test]
fn words_that_are_nothing() {
    only(
        &origin("hold = { xyzzy = 1 }"),
        "3:10: unknown key `xyzzy` in `origin.a.hold` | keys here are: bytes, clients, for, half_close",
    );
    only(
        &origin("balance = \"zzz\""),
        "3:11: `origin.a.balance` cannot be \"zzz\" | one of: failover, round-robin, least-connections, p2c-ewma, random, hash",
    );
    only(
        &origin("protocol = \"gopher\""),
        "3:12: `origin.a.protocol` cannot be \"gopher\" | one of: tcp, udp, http, h2",
    );
}

#[test]
fn values_of_the_wrong_kind() {
    only(
        &origin("required = \"yes\""),
        "3:12: `origin.a.required` must be true or false, not a string",
    );
    only(
        &origin("connect = 5"),
        "3:11: `origin.a.connect` must be a table, not an integer",
    );
    only(
        &origin("health = { interval = 5 }"),
        "3:23: `origin.a.health.interval` must be a duration with a unit, in quotes | write it with its unit: \"5ms\" or \"5s\"",
    );
    only(
        &origin("health = { interval = \"5 parsecs\" }"),
        "3:23: `origin.a.health.interval` is not a duration: \"5 parsecs\" | durations look like \"250ms\", \"5s\", \"1m30s\", \"1h\", \"1d\"",
    );
    only(
        &origin("health = { interval = \"0s\" }"),
        "3:23: `origin.a.health.interval` must be longer than zero",
    );
    only(
        &origin("health = { down_after = 0 }"),
        "3:25: `origin.a.health.down_after` must be from 1 to 1000",
    );
    only(
        &origin("reconnect = { factor = 0.5 }"),
        "3:24: `origin.a.reconnect.factor` cannot work: the factor must be a number of at least 1",
    );
    only(
        &origin("reconnect = { max = \"1ms\" }"),
        "3:21: `origin.a.reconnect.max` cannot work: the longest delay must be at least the first",
    );
    only(
        &told("[gateway]\nworkers = -1\n"),
        "2:11: `gateway.workers` must be from 0 to 1024",
    );
}

#[test]
fn addresses_of_origins() {
    let hint = " | addresses look like \"db.internal:5432\", \"https://api.example\", \"10.0.0.7:5432\", \"[2001:db8::7]:5432\", \"unix:/run/x.sock\", \"srv:_db._tcp.internal\"";
    only(
        &told("[origin.a]\n"),
        "1:9: `origin.a.address` is missing | an origin needs at least one address: address = \"host:port\"",
    );
    only(
        &told("[origin.a]\naddress = []\n"),
        "2:11: `origin.a.address` must have from 1 to 256 entries",
    );
    only(
        &told("[origin.a]\naddress = \"db\"\n"),
        &format!("2:11: `origin.a.address` cannot be \"db\": the port is missing{hint}"),
    );
    only(
        &told("[origin.a]\naddress = \"db:99999\"\n"),
        &format!(
            "2:11: `origin.a.address` cannot be \"db:99999\": the port must be a number from 1 to 65535{hint}"
        ),
    );
    only(
        &told("[origin.a]\naddress = [\"h:1\", \"h:1\"]\n"),
        "2:19: `origin.a.address` has h:1 twice",
    );
    only(
        &told("[origin.a]\naddress = [{ weight = 1 }]\n"),
        "2:12: `origin.a.address` needs `to` | { to = \"host:port\", weight = 3, backup = false }",
    );
    only(
        &told("[origin.a]\naddress = [{ to = \"h:1\", weight = 0 }]\n"),
        "2:35: `origin.a.address.weight` must be from 1 to 1000",
    );
}

#[test]
fn listeners() {
    let hint = " | addresses look like \"127.0.0.1:8080\", \"[::1]:8080\", \"localhost:8080\", \"127.0.0.1:auto\", \"unix:/run/x.sock\", \"unix:@name\"";
    let exposed = listen("address = \"0.0.0.0:80\"");
    let [exposed] = &exposed[..] else {
        panic!("{exposed:?}");
    };
    // By which interfaces, the machine says.
    let begins = "5:11: `listen.address` has an address that is not loopback: 0.0.0.0:80 can be reached by every user of this machine, and other machines ";
    let ends = " | add `public = true` to this listener if that is meant";
    assert!(
        exposed.starts_with(begins) && exposed.ends_with(ends),
        "{exposed}"
    );
    only(
        &listen("address = \"example.com:80\""),
        &format!(
            "5:11: `listen.address` cannot be \"example.com:80\": a listener has an IP address, or `localhost`{hint}"
        ),
    );
    only(
        &listen("address = \"::1:80\""),
        &format!(
            "5:11: `listen.address` cannot be \"::1:80\": IPv6 addresses stand in brackets{hint}"
        ),
    );
    only(
        &listen("address = \"127.0.0.1\""),
        &format!("5:11: `listen.address` cannot be \"127.0.0.1\": the port is missing{hint}"),
    );
    only(
        &listen("name = \"x\""),
        "3:1: a listener needs `address` | address = \"127.0.0.1:8080\"",
    );
    only(
        &told("[[listen]]\naddress = \"127.0.0.1:1\"\n"),
        "1:1: a listener needs `origin` | origin = \"NAME\", for an [origin.NAME]",
    );
    only(
        &told(
            "[origin.search]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"serach\"\n",
        ),
        "5:10: there is no origin `serach` | did you mean `search`?",
    );
    only(
        &told("[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"web\"\n"),
        "3:10: there is no origin `web` | define it: [origin.web] with an address",
    );
    only(
        &listen("address = [\"127.0.0.1:1\", \"127.0.0.1:1\"]"),
        "5:11: 127.0.0.1:1 is listened on twice",
    );
    only(
        &told("listen = 5\n"),
        "1:10: `listen` must be a table | write [[listen]]",
    );
}

#[test]
fn rates_have_a_unit() {
    for wrong in ["100", "0/s", "x/s", "5/d"] {
        only(
            &listen(&format!(
                "address = \"127.0.0.1:1\"\nmode = \"http\"\nlimits.rate = \"{wrong}\""
            )),
            &format!(
                "7:15: `listen.limits.rate` is not a rate: {wrong:?} | rates look like \"100/s\", \"30/m\", \"1000/h\""
            ),
        );
    }
}

#[test]
fn what_is_not_built_yet_says_so() {
    let later = " | leave it out; a later version brings it";
    only(
        &origin("protocol = \"postgres\""),
        &format!(
            "3:1: `origin.a.protocol` is not built yet: this version speaks tcp, udp, http and h2, and \"postgres\" is another one{later}"
        ),
    );
    only(
        &told("[origin.a]\naddress = \"postgres://db\"\n"),
        &format!(
            "2:1: `origin.a.address` is not built yet: this version speaks tcp, udp, http and h2, and \"postgres\" is another one{later}"
        ),
    );
}

#[test]
fn resolvers_and_networks() {
    let dns = |lines: &str| told(&format!("[dns]\n{lines}\n"));
    only(
        &dns("servers = []"),
        "2:11: `dns.servers` must have from 1 to 16 entries | \"system\" is the operating system's own resolution",
    );
    let hint = "resolvers look like \"system\", \"9.9.9.9\", \"127.0.0.1:5353\", \"tls://1.1.1.1#cloudflare-dns.com\", \"https://dns.example/dns-query\"";
    only(
        &dns("servers = [\"system\", \"dns.example\"]"),
        &format!(
            "2:22: `dns.servers` cannot be \"dns.example\": plain DNS needs an IP address: who would resolve the name? | {hint}"
        ),
    );
    only(
        &dns("servers = [\"9.9.9.9\", \"udp://9.9.9.9:53\"]"),
        "2:23: `dns.servers` has \"udp://9.9.9.9:53\" twice",
    );
    only(
        &dns("strategy = \"raced\""),
        "2:12: `dns.strategy` cannot be \"raced\" | did you mean `race`?",
    );
    only(
        &dns("min_ttl = \"10s\"\nmax_ttl = \"5s\""),
        "3:11: `dns.max_ttl` is shorter than `dns.min_ttl`",
    );
    let told = dns("dnssec = \"require\"\ntrust_anchor = \"root.key\"");
    assert!(
        matches!(&told[..], [one] if one.starts_with("3:16: `dns.trust_anchor` cannot be read: ")),
        "{told:?}"
    );
    only(
        &origin("connect.allow_ips = [\"10.0.0.1/8\"]"),
        "3:22: `origin.a.connect.allow_ips` cannot be \"10.0.0.1/8\": it has bits of a host behind its prefix | networks look like \"203.0.113.0/24\", \"2001:db8::/32\", \"10.0.0.7\"",
    );
    only(
        &self::told(
            "[origin.a]\naddress = [\"192.0.2.1:1\", \"203.0.113.1:1\"]\nconnect.allow_ips = \"192.0.2.0/24\"\n",
        ),
        "3:21: `origin.a.connect.allow_ips` forbids 203.0.113.1:1: 203.0.113.1 is in none of the networks of allow_ips | add its network, or leave the address out",
    );
    only(
        &self::told("[origin.a]\naddress = \"srv:db.internal\"\n"),
        "2:11: `origin.a.address` cannot be \"srv:db.internal\": a service is written srv:_service._tcp.domain, without a port | addresses look like \"db.internal:5432\", \"https://api.example\", \"10.0.0.7:5432\", \"[2001:db8::7]:5432\", \"unix:/run/x.sock\", \"srv:_db._tcp.internal\"",
    );
}

#[test]
fn a_trust_anchor_must_be_one() {
    let text = "[dns]\ndnssec = \"validate\"\ntrust_anchor = \"key\"\n";
    for (key, why) in [
        (
            ". IN DS 20326 8 2 E06D44B80B8F1D39",
            "it has no DNSKEY record; a DS record is not enough",
        ),
        (". IN DNSKEY 257 3 8 %%%", "cannot be understood"),
        ("", "it has no DNSKEY record"),
    ] {
        let (_directory, loaded) = directory(&[("c.toml", text), ("key", key)]);
        let told = loaded
            .expect_err("there must be a mistake")
            .lines()
            .join("; ");
        assert!(
            told.contains("`dns.trust_anchor`") && told.contains(why),
            "{told}"
        );
    }
}

#[test]
fn variables() {
    only(
        &origin("feature = \"${NOPE}\""),
        "3:11: `origin.a.feature` needs the environment variable `NOPE`, which is not set | set it, or give a default: ${NAME:-default}",
    );
    only(
        &origin("feature = \"5 $\""),
        "3:11: `origin.a.feature` has a lone dollar sign | $$ is a dollar sign, ${NAME} a variable",
    );
}

#[test]
fn syntax_and_files() {
    let syntax = told("[origin.a\naddress = \"h:1\"\n");
    assert!(syntax[0].starts_with("1:"), "{syntax:?}");
    let twice = told("[origin.a]\naddress = \"h:1\"\naddress = \"h:2\"\n");
    assert!(twice[0].starts_with("3:1: duplicate key"), "{twice:?}");
    let nowhere = load(
        Some(std::path::Path::new("/nonexistent/x.toml")),
        &environment(),
    );
    let text = nowhere.unwrap_err().to_string();
    assert!(
        text.starts_with("error: cannot read /nonexistent/x.toml: No such file"),
        "{text}"
    );
    let (directory, _) = directory(&[]);
    std::fs::write(directory.path().join("c.toml"), b"a = \"\xff\"").unwrap();
    let text = load(Some(directory.path()), &environment())
        .unwrap_err()
        .to_string();
    assert!(text.contains("c.toml is not UTF-8: see byte 5"), "{text}");
}

#[test]
fn a_directory_may_not_define_twice() {
    let (place, loaded) = directory(&[
        (
            "a.toml",
            "[origin.x]\naddress = \"h:1\"\n[log]\nlevel = \"info\"\n",
        ),
        (
            "b.toml",
            "[log]\nlevel = \"warn\"\n[origin.x]\naddress = \"h:2\"\n",
        ),
    ]);
    let text = loaded.unwrap_err().to_string();
    let first = |line| {
        format!(
            "hint: first defined at {}:{line}",
            place.path().join("a.toml").display()
        )
    };
    assert!(text.contains("origin `x` is defined twice"), "{text}");
    assert!(
        text.contains("`[log]` is defined in another file already"),
        "{text}"
    );
    assert!(
        text.contains(&first(1)) && text.contains(&first(3)),
        "{text}"
    );
}

#[test]
fn all_mistakes_are_told_at_once_and_drawn() {
    let (place, loaded) =
        directory(&[("c.toml", "[origin.a]\naddress = \"db\"\nblance = \"x\"\n")]);
    let text = loaded.unwrap_err().render(Colour::No);
    let text = text.replace(&format!("{}/", place.path().display()), "");
    let expected = "\
error at c.toml:2:11: `origin.a.address` cannot be \"db\": the port is missing
   ╭─[c.toml:2:11]
 1 │ [origin.a]
 2 │ address = \"db\"
   ·           ──┬─
   ·             ╰── here
 3 │ blance = \"x\"
   ╰────
  hint: addresses look like \"db.internal:5432\", \"https://api.example\", \"10.0.0.7:5432\", \"[2001:db8::7]:5432\", \"unix:/run/x.sock\", \"srv:_db._tcp.internal\"

error at c.toml:3:1: unknown key `blance` in `origin.a`
   ╭─[c.toml:3:1]
 2 │ address = \"db\"
 3 │ blance = \"x\"
   · ───┬──
   ·    ╰── unknown
   ╰────
  hint: did you mean `balance`?

2 errors in the configuration; nothing was changed or started
";
    assert_eq!(text, expected);
}

#[test]
fn the_reference_names_exactly_the_keys_that_are_read() {
    for part in super::super::reference::PARTS {
        // Its keys are names.
        if part.title == "[access_map]" {
            continue;
        }
        let name = part.title.trim_matches(['[', ']']).replace("NAME", "x");
        let section = match name.as_str() {
            "listen" => "[origin.x]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"x\"\n".to_owned(),
            "origin.x" => "[origin.x]\naddress = \"http://h:1\"\n".to_owned(),
            "listen.status" => {
                "[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"status\"\n[listen.status]\n".to_owned()
            }
            "listen.forward" => {
                "[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"forward\"\n[listen.forward]\n".to_owned()
            }
            name if name.starts_with("listen.") => format!(
                "[origin.x]\naddress = \"http://h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"x\"\n{}\n",
                part.title
            ),
            name if name.starts_with("origin.x.") => {
                format!("[origin.x]\naddress = \"http://h:1\"\n[{name}]\n")
            }
            name => format!("[{name}]\n"),
        };
        let told = told(&format!("{section}zzzzzzzz = 1\n"));
        let mut keys: Vec<&str> = part.keys.iter().map(|(key, _, _)| *key).collect();
        keys.extend(part.later);
        keys.sort_unstable();
        let expected = format!(" | keys here are: {}", keys.join(", "));
        let is_told = told.iter().any(|line| line.ends_with(&expected));
        assert!(is_told, "{}: {told:?}", part.title);
    }
}

#[test]
fn forward_proxies_that_cannot_be() {
    let listen = "[[listen]]\naddress = \"127.0.0.1:1\"\nmode = \"forward\"\n";
    let of = |keys: &str| told(&format!("{listen}[listen.forward]\n{keys}\n"));
    let hint = " | \"ads.example\", \"*.example\" (all below), \".example\" (it, and all below), \"203.0.113.0/24\", { file = \"hosts.txt\" }";
    for wrong in ["", "a b", "http://a", "10.0.0.0/99", "a:80", "*"] {
        let expected = format!("5:9: `listen.forward.block` cannot be {wrong:?}{hint}");
        only(&of(&format!("block = {wrong:?}")), &expected);
    }
    only(
        &of("block = { file = \"/nowhere\" }"),
        "5:9: `listen.forward.block` cannot be read: /nowhere: there is no such file",
    );
    only(
        &of("allow = [{}]"),
        "5:10: `listen.forward.allow` needs the `file` that they are in | { file = \"hosts.txt\" }",
    );
    let hint = " | ports = [80, 443, \"8000-8999\"], or \"all\"";
    for (wrong, why) in [
        ("[]", "has none: nobody could go anywhere"),
        ("\"9-8\"", "cannot be \"9-8\""),
        ("[\"all\", 80]", "cannot be \"all\""),
        ("\"0\"", "cannot be \"0\""),
    ] {
        let told = of(&format!("ports = {wrong}"));
        assert!(
            told.iter()
                .any(|line| line.contains(why) && line.ends_with(hint)),
            "{told:?}"
        );
    }
    let port = of("ports = [0]");
    assert!(
        port.first()
            .is_some_and(|line| line.contains("`listen.forward.ports`")),
        "{port:?}"
    );
    for wrong in [
        "proxy.example:3128",
        "ftp://proxy.example",
        "http://",
        "http://proxy.example:3128/x",
        "http://proxy.example:3128#x",
    ] {
        let told = of(&format!("via = {wrong:?}"));
        let is_told = told
            .iter()
            .any(|line| line.starts_with("5:7: `listen.forward.via` has "));
        assert!(is_told && told.len() == 1, "{wrong}: {told:?}");
    }
    let secret = of("via = \"socks9://ann:hush@proxy.example:1080\"");
    assert!(
        !secret.iter().any(|line| line.contains("hush")),
        "{secret:?}"
    );
    let table = of("via = [{ to = [\"a.example\"] }]");
    assert!(
        table.iter().any(|line| line.contains("needs `to`")),
        "{table:?}"
    );
    only(
        &of("private = \"some\""),
        "5:11: `listen.forward.private` cannot be \"some\" | \"deny\", \"allow\", or a list of networks as \"10.0.0.0/8\"",
    );
    only(
        &told(
            "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\nforward = {}\n",
        ),
        "6:11: `listen.forward` is for `mode = \"forward\"` | add mode = \"forward\", or leave it out",
    );
    only(
        &told(&format!(
            "[origin.a]\naddress = \"h:1\"\n{listen}origin = \"a\"\n"
        )),
        "6:10: `listen.origin` leads nowhere: the listener is a forward proxy | leave it out",
    );
}

#[test]
fn checks_that_ask_nothing_sensible() {
    let check = |address: &str, health: &str| {
        told(&format!(
            "[origin.a]\naddress = \"{address}\"\nhealth = {{ {health} }}\n"
        ))
    };
    for path in ["", "healthz", "/a b", "/a#b", "/\\u00e4"] {
        let told = check("http://h", &format!("check = \"http:{path}\""));
        let [told] = &told[..] else {
            panic!("{path}: {told:?}")
        };
        assert!(
            told.starts_with("3:20: `origin.a.health.check` cannot ask for "),
            "{told}"
        );
    }
    only(
        &check("udp://h:1", "check = \"http:/\""),
        "3:20: `origin.a.health.check` cannot be a check of HTTP of an origin that speaks udp",
    );
    only(
        &check("http://h", "check = \"send:a expect:b\""),
        "3:20: `origin.a.health.check` cannot send bytes to an origin that speaks http | a path, as in check = \"http:/healthz\"",
    );
    only(
        &check("h:1", "check = \"send:PING\""),
        "3:20: `origin.a.health.check` needs ` expect:` and how the answer begins | check = \"send:PING\\r\\n expect:+PONG\"",
    );
    only(
        &check("h:1", "check = \"send:PING expect:\""),
        "3:20: `origin.a.health.check` expects nothing, which says nothing | check = \"send:PING\\r\\n expect:+PONG\"",
    );
    for word in ["\\q", "\\x0", "\\xg0", "\\x+1", "\\"] {
        only(
            &check("h:1", &format!("check = 'send:a expect:{word}'")),
            "3:20: `origin.a.health.check` has a backslash before something unknown | write \\r, \\n, \\t, \\\\, or two hexadecimal digits as in \\x00",
        );
    }
    only(
        &check("http://h", "check = \"http:/\", status = \"ok\""),
        "3:39: `origin.a.health.status` cannot be \"ok\": a status is a number from 200 to 599 | \"200-399\", \"200\", \"200-299,404\"",
    );
    for health in [
        "status = \"200\"",
        "status = \"200\", check = \"tcp\"",
        "status = \"200\", check = \"send:a expect:b\"",
    ] {
        only(
            &check("h:1", health),
            "3:21: `origin.a.health.status` goes with a check of HTTP only | check = \"http:/healthz\"",
        );
    }
}

#[test]
fn answers_that_nobody_understands_are_not_judged() {
    for (health, place) in [("passive = true", "3:22"), ("max_ejected = 0.5", "3:26")] {
        let key = health.split(' ').next().unwrap();
        only(
            &origin(&format!("health = {{ {health} }}")),
            &format!(
                "{place}: `origin.a.health.{key}` goes with protocol = \"http\" or \"h2\" only"
            ),
        );
    }
    only(
        &told("[origin.a]\naddress = \"http://h\"\nhealth = { max_ejected = 1.5 }\n"),
        "3:26: `origin.a.health.max_ejected` must be from 0.0 to 1.0 | 0.5 is half of the endpoints",
    );
}

#[test]
fn what_does_not_go_with_udp() {
    let udp = |lines: &str| told(&format!("[origin.a]\naddress = \"udp://h:1\"\n{lines}\n"));
    only(
        &udp("protocol = \"tcp\""),
        "2:11: `origin.a.address` cannot have h:1/udp in an origin that speaks tcp | an origin speaks one protocol; make another origin for the other",
    );
    only(
        &told("[origin.a]\naddress = [\"udp://h:1\", \"unix:/run/x\"]\n"),
        "2:11: `origin.a.address` cannot have unix:/run/x: UDP has no Unix sockets",
    );
    only(
        &udp("health = { check = \"tcp\" }"),
        "3:20: `origin.a.health.check` cannot be \"tcp\" of an origin that speaks udp",
    );
    for (lines, place, key) in [
        ("health = { on_down = \"close\" }", "3:22", "health.on_down"),
        ("hold = { half_close = true }", "3:23", "hold.half_close"),
        ("timeouts = { stall = \"1s\" }", "3:22", "timeouts.stall"),
    ] {
        only(
            &udp(lines),
            &format!("{place}: `origin.a.{key}` goes with TCP only"),
        );
    }
    only(
        &udp("[[listen]]\naddress = \"unix:x.sock\"\norigin = \"a\""),
        "4:11: unix:x.sock cannot lead to origin `a`, which speaks udp",
    );
    only(
        &udp("[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\nmode = \"tcp\""),
        "6:8: `listen.mode` cannot be \"tcp\": origin `a` speaks udp",
    );
    only(
        &listen("address = \"127.0.0.1:1\"\nmode = \"udp\""),
        "6:8: `listen.mode` cannot be \"udp\": origin `a` speaks tcp",
    );
}

#[test]
fn what_only_http_has() {
    let http = |lines: &str| told(&format!("[origin.a]\naddress = \"http://h\"\n{lines}\n"));
    let listens = |lines: &str| {
        http(&format!(
            "[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n{lines}"
        ))
    };
    let raw = |lines: &str| listen(&format!("address = \"127.0.0.1:1\"\n{lines}"));
    only(
        &origin("retry = { attempts = 2 }"),
        "3:9: `origin.a.retry` goes with protocol = \"http\" or \"h2\" only",
    );
    only(
        &origin("timeouts = { first_byte = \"1s\" }"),
        "3:27: `origin.a.timeouts.first_byte` goes with protocol = \"http\" or \"h2\" only",
    );
    only(
        &http("retry = { budget = 2 }"),
        "3:20: `origin.a.retry.budget` must be from 0.0 to 1.0 | 0.2 is a fifth of the live traffic",
    );
    only(
        &origin("balance = \"hash\"\nhash_on = \"path\""),
        "4:11: `origin.a.hash_on` cannot be \"path\": that needs protocol = \"http\"",
    );
    only(
        &http("balance = \"hash\"\nhash_on = \"cookie:\""),
        "4:11: `origin.a.hash_on` cannot be \"cookie:\" | \"source\", \"path\", \"header:NAME\" or \"cookie:NAME\"",
    );
    only(
        &http("host = \"a b\""),
        "3:8: `origin.a.host` cannot be \"a b\" | \"client\", \"origin\", or a host",
    );
    only(
        &told("[origin.a]\naddress = [\"http://h\", \"http://i\"]\nhost = \"origin\"\n"),
        "3:8: `origin.a.host` cannot be \"origin\": its addresses have no name in common",
    );
    only(
        &told("[origin.a]\naddress = \"http://h/path\"\nretry.attempts = 2\n"),
        "2:11: `origin.a.address` cannot have a path: \"/path\" | a path is for [[listen.route]] and its `rewrite`",
    );
    only(
        &told("[origin.a]\naddress = \"ftp://h\"\n"),
        "2:11: `origin.a.address` has a scheme that is not known: \"ftp\" | tcp://, udp://, tls://, http://, https://, h2:// or h2c://, or none of them",
    );
    only(
        &raw("route = [{ host = \"b\", path = \"/\", origin = \"a\" }]"),
        "6:24: `listen.route.path` needs HTTP, and the listener speaks tcp",
    );
    only(
        &raw("route = [{ origin = \"a\" }]"),
        "6:10: a route needs `host` where no HTTP is spoken",
    );
    only(
        &raw("limits = { idle = \"1s\" }"),
        "6:12: `listen.limits.idle` needs HTTP, and the listener speaks tcp",
    );
    for (line, told) in [
        (
            "route = [{ path = \"api\", origin = \"a\" }]",
            "6:19: `listen.route.path` cannot be \"api\": a path begins with a slash | \"/prefix/\", \"= /exact\" or \"~ ^/expression\"",
        ),
        (
            "route = [{ method = \"get\", origin = \"a\" }]",
            "6:21: `listen.route.method` cannot be \"get\" | methods are written in capitals: \"GET\"",
        ),
        (
            "route = [{ rewrite = { set = { \"Host\" = \"b\" } }, origin = \"a\" }]",
            "6:41: `listen.route.rewrite.set.Host` cannot change \"Host\": it says how the message is read | `host` of the origin says whom it is asked for",
        ),
        (
            "route = [{ rewrite = { set = { \"a b\" = \"b\" } }, origin = \"a\" }]",
            "6:40: `listen.route.rewrite.set.a b` has a header that cannot be: \"a b\"",
        ),
        (
            "route = [{ requires = [\"b\"], origin = \"a\" }]",
            "6:24: there is no origin `b` | define it: [origin.b] with an address",
        ),
        (
            "route = [{ path = \"/\" }]",
            "6:10: `listen.route` needs `origin` | host = [\"shop.example\", \"*.shop.example\"], origin = \"NAME\"",
        ),
        (
            "forwarded = { trust = [\"lan\"] }",
            "6:24: `listen.forwarded.trust` cannot be \"lan\" | \"loopback\", an address, or a network as \"10.0.0.0/8\"",
        ),
        (
            "limits = { body = \"10 zb\" }",
            "6:19: `listen.limits.body` is not a size: \"10 zb\" | sizes look like \"512B\", \"64KiB\", \"10MiB\", \"1GiB\"",
        ),
    ] {
        only(&listens(line), told);
    }
}

//! What servers say of their own health, with nginx, which is asked in HTTP/1.1 and HTTP/2, inside TLS and
//! without.

use std::io::BufReader;
use std::net::SocketAddr;

use serde_json::Value;

use crate::desk::{Desk, dial, free_address, until};
use crate::http::{ask, nginx_by};
use crate::servers::needed;
use crate::tls::Papers;

fn endpoint(desk: &Desk, origin: &str, index: usize) -> Value {
    desk.origin(origin)["endpoints"][index].clone()
}

#[test]
fn nginx_that_says_that_it_is_not_well_is_left_until_it_is() {
    let test = "nginx_that_says_that_it_is_not_well_is_left_until_it_is";
    if needed(test, "nginx").is_none() {
        return;
    }
    let papers = Papers::new();
    papers.issue("site", &["shop.test"]);
    let kinds = [
        ("http", "", ""),
        ("h2c", " http2", ""),
        ("https", " ssl", "tls"),
        ("h2", " ssl http2", "tls"),
    ];
    let tls = format!(
        "tls = {{ ca = \"{}\", server_name = \"shop.test\" }}\n",
        papers.at("ca.pem")
    );
    let places = kinds.map(|_| [free_address(), free_address()]);
    let mut text = String::new();
    for ((scheme, _, sealed), [one, two]) in kinds.iter().zip(&places) {
        let sealed = if sealed.is_empty() { "" } else { &tls };
        text.push_str(&format!(
            "[origin.{scheme}]\naddress = [\"{scheme}://{one}\", \"{scheme}://{two}\"]\nhost = \"shop.test\"\n{sealed}\
             health = {{ check = \"http:/healthz\", interval = \"100ms\", timeout = \"5s\" }}\n\
             [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"{scheme}\"\n"
        ));
    }
    let mut desk = Desk::with(&text);
    let directory = desk.directory.path().to_owned();
    let mut servers = Vec::new();
    for ((scheme, listen, sealed), addresses) in kinds.iter().zip(&places) {
        for (index, address) in addresses.iter().enumerate() {
            let name = format!("{scheme}{index}");
            let at = directory.join(&name);
            let at = at.display();
            let certificate = match *sealed {
                "" => String::new(),
                _ => format!(
                    "ssl_certificate {}; ssl_certificate_key {};",
                    papers.at("site.pem"),
                    papers.at("site.key")
                ),
            };
            let server = format!(
                "{certificate} location = /healthz {{ if (-f {at}/sick) {{ return 503; }} \
                 if ($host != shop.test) {{ return 421; }} return 204; }}"
            );
            servers.push(nginx_by(&directory, &name, *address, (*listen, &server)));
        }
    }
    desk.start();
    for (scheme, _, _) in kinds {
        until(&format!("{scheme} is well"), || {
            (0..2).all(|index| endpoint(&desk, scheme, index)["health"] == "up")
        });
        std::fs::write(directory.join(format!("{scheme}0/sick")), "").unwrap();
        until(&format!("{scheme} is left"), || {
            let one = endpoint(&desk, scheme, 0);
            one["failure"]["cause"] == "the health check was answered with 503"
                && one["failure"]["layer"] == "application"
                && one["takes_work"] == false
        });
        assert_eq!(endpoint(&desk, scheme, 1)["takes_work"], true, "{scheme}");
        assert_eq!(desk.origin(scheme)["phase"], "up", "{scheme}");
        std::fs::remove_file(directory.join(format!("{scheme}0/sick"))).unwrap();
        until(&format!("{scheme} is back"), || {
            endpoint(&desk, scheme, 0)["takes_work"] == true
        });
        let log = std::fs::read_to_string(directory.join(format!("{scheme}0/access.log"))).unwrap();
        let checks: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("/healthz"))
            .collect();
        let told = if scheme.starts_with("h2") {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        };
        assert!(!checks.is_empty(), "{log}");
        for line in checks {
            assert!(line.contains(told) && line.contains(" health\""), "{line}");
        }
    }
    let log = desk.log();
    assert!(
        log.contains("the health check was answered with 503"),
        "{log}"
    );
    assert!(!log.contains("panicked"), "{log}");
    drop(servers);
}

/// The endpoint at an address; those of one priority are in no order of their own.
fn endpoint_at(desk: &Desk, address: SocketAddr) -> Value {
    let origin = desk.origin("web");
    let mut endpoints = origin["endpoints"].as_array().unwrap().iter();
    let found = endpoints.find(|one| one["address"] == address.to_string());
    found.cloned().unwrap()
}

/// The statuses of so many answers, on one connection.
fn ask_all(desk: &Desk, count: usize) -> Vec<u16> {
    let mut stream = BufReader::new(dial(desk.address("web")));
    let one = |_| ask(&mut stream, "GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    (0..count).map(one).map(|(status, _)| status).collect()
}

#[test]
fn nginx_that_answers_500_to_everything_is_set_aside() {
    let test = "nginx_that_answers_500_to_everything_is_set_aside";
    if needed(test, "nginx").is_none() {
        return;
    }
    let places = [free_address(), free_address(), free_address()];
    let [one, two, three] = places;
    let mut desk = Desk::with(&format!(
        "[origin.web]\naddress = [\"http://{one}\", \"http://{two}\", \"http://{three}\"]\nbalance = \"round-robin\"\n\
         [[listen]]\naddress = \"127.0.0.1:auto\"\norigin = \"web\"\n"
    ));
    let directory = desk.directory.path().to_owned();
    let mut servers = Vec::new();
    for (name, address) in ["one", "two", "three"].into_iter().zip(places) {
        let at = directory.join(name);
        let server = format!("if (-f {}/broken) {{ return 500; }}", at.display());
        servers.push(nginx_by(&directory, name, address, ("", &server)));
    }
    desk.start();
    until("all are up", || {
        let is_up = |address| endpoint_at(&desk, address)["health"] == "up";
        places.into_iter().all(is_up)
    });
    assert!(ask_all(&desk, 60).iter().all(|status| *status == 200));
    std::fs::write(directory.join("two/broken"), "").unwrap();
    until("it is set aside", || {
        ask_all(&desk, 30);
        !endpoint_at(&desk, two)["ejected"].is_null()
    });
    let failed = ask_all(&desk, 300);
    let failed = failed.iter().filter(|status| **status != 200).count();
    assert!(failed < 30, "{failed} of 300");
    let log = desk.log();
    assert_eq!(log.matches("endpoint ejected").count(), 1, "{log}");
    assert!(log.contains("answers were 5xx"), "{log}");

    // Where all fail, nobody is to blame.
    for name in ["one", "three"] {
        std::fs::write(directory.join(name).join("broken"), "").unwrap();
    }
    ask_all(&desk, 300);
    for address in [one, three] {
        assert!(endpoint_at(&desk, address)["ejected"].is_null());
    }
    drop(servers);
}

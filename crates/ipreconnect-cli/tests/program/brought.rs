//! Connections of others: told to origins, and brought by proxies, with HAProxy and nginx on either side.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use ipreconnect::core::carried::{Header, read};

use crate::desk::{Desk, dial, free_address, line_server, one, until};
use crate::servers::{Server, needed};
use crate::tls::Papers;

/// Where Debian has nginx's module for streams.
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A page that a client gets that comes from its own address.
fn page(front: SocketAddr) -> (SocketAddr, String) {
    let mut stream = dial(front);
    let own = stream.local_addr().unwrap();
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (own, answer)
}

fn announcing(address: SocketAddr, version: &str) -> String {
    one(address).replace(
        "[[listen]]",
        &format!("connect.proxy_protocol = \"{version}\"\n[[listen]]"),
    )
}

#[test]
fn haproxy_and_nginx_are_told_whose_connection_it_is() {
    let test = "haproxy_and_nginx_are_told_whose_connection_it_is";
    let (Some(haproxy), Some(nginx)) = (needed(test, "haproxy"), needed(test, "nginx")) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().display();
    let (first, second) = (free_address(), free_address());
    let text = format!(
        "defaults\n mode http\n timeout connect 5s\n timeout client 20s\n timeout server 20s\n\
         frontend f\n bind {first} accept-proxy\n http-request return status 200 content-type text/plain lf-string \"client %[src]:%[src_port] \"\n"
    );
    std::fs::write(directory.path().join("haproxy.cfg"), text).unwrap();
    let text = format!(
        "daemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
         events {{}}\nhttp {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; \
         fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;\n\
         server {{ listen {second} proxy_protocol; return 200 \"client $proxy_protocol_addr:$proxy_protocol_port \"; }} }}\n"
    );
    std::fs::write(directory.path().join("nginx.conf"), text).unwrap();
    let _haproxy = Server::start(
        Command::new(haproxy)
            .arg("-f")
            .arg(directory.path().join("haproxy.cfg")),
    );
    let _nginx = Server::start(
        Command::new(nginx)
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(directory.path().join("nginx.conf")),
    );
    for server in [first, second] {
        until("it listens", || TcpStream::connect(server).is_ok());
        for version in ["v1", "v2"] {
            let desk = Desk::run(&announcing(server, version));
            desk.wait_for_phase("a", "up");
            let (own, answer) = page(desk.address("a"));
            assert!(
                answer.contains(&format!("client {own} ")),
                "{version}: {own} {answer}"
            );
        }
    }
}

/// The first header that comes, and what follows it.
fn header(origin: &TcpListener) -> (ipreconnect::core::carried::Carried, TcpStream) {
    loop {
        let (mut stream, _) = origin.accept().unwrap();
        let mut bytes = Vec::new();
        loop {
            match read(&bytes) {
                Header::More => {
                    let mut byte = [0; 1];
                    stream.read_exact(&mut byte).unwrap();
                    bytes.push(byte[0]);
                }
                // The gateway's own connections say so.
                Header::Whole(_, carried) if carried.is_own => break,
                Header::Whole(_, carried) => return (carried, stream),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn origins_are_told_of_the_tls_of_clients_and_whom_proxies_bring() {
    let papers = Papers::new();
    papers.issue("site", &["localhost"]);
    papers.issue_with("client", &["who.test"], |params| {
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "ann");
    });
    let origin = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = origin.local_addr().unwrap();
    let roots = format!(", client_ca = \"{}\"", papers.at("ca.pem"));
    let text = format!(
        "{}tls = {}\nproxy_protocol = \"accept\"\nproxy_trust = \"loopback\"\n\
         [[access]]\nfrom = [\"192.0.2.0/24\"]\nmethod = \"cert\"\nuser = \"ann\"\n",
        announcing(address, "v2").replace("connect.proxy", "health.check = \"tcp\"\nconnect.proxy"),
        papers.pair("site", &roots)
    );
    let desk = Desk::run(&text);
    desk.wait_for_phase("a", "up");
    let front = desk.address("a");
    let mut command = Command::new("openssl");
    command.args(["s_client", "-quiet", "-alpn", "postgresql"]);
    for (option, file) in [
        ("-cert", "client.pem"),
        ("-key", "client.key"),
        ("-CAfile", "ca.pem"),
    ] {
        command.arg(option).arg(papers.at(file));
    }
    // openssl has no such header: what connects for it has.
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let through = relay.local_addr().unwrap();
    std::thread::spawn(move || {
        let (client, _) = relay.accept().unwrap();
        let mut server = TcpStream::connect(front).unwrap();
        server
            .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n")
            .unwrap();
        let (mut up, mut down) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut up, &mut server));
        let mut client = client;
        let _ = std::io::copy(&mut down, &mut client);
    });
    let _client = Server::start(
        command
            .args(["-connect", &through.to_string()])
            .stdin(std::process::Stdio::piped()),
    );
    let (carried, _stream) = header(&origin);
    let (from, to) = carried.addresses.unwrap();
    assert_eq!(
        (from.to_string(), to.to_string()),
        ("192.0.2.7:4711".into(), "198.51.100.1:443".into())
    );
    let tls = carried.tls.unwrap();
    assert!(tls.is_verified);
    assert_eq!(tls.version.as_deref(), Some("TLSv1.3"));
    assert_eq!(tls.name.as_deref(), Some("ann"));
}

#[test]
fn nginx_brings_its_clients() {
    let test = "nginx_brings_its_clients";
    let Some(nginx) = needed(test, "nginx") else {
        return;
    };
    if !Path::new(STREAM_MODULE).exists() {
        ipreconnect_lab::namespace::skipped(test, "nginx's module for streams is not installed");
        return;
    }
    let desk = Desk::run(&format!(
        "{}proxy_protocol = \"require\"\nproxy_trust = [\"loopback\"]\n\
         [[access]]\nfrom = \"127.0.0.5\"\nmethod = \"trust\"\n",
        one(line_server("one"))
    ));
    let (front, behind) = (free_address(), desk.address("a"));
    let at = desk.directory.path().display();
    let text = format!(
        "load_module {STREAM_MODULE};\ndaemon off; master_process off; pid {at}/nginx.pid; error_log {at}/error.log;\n\
         events {{}}\nstream {{ server {{ listen {front}; proxy_pass {behind}; proxy_protocol on; }} }}\n"
    );
    std::fs::write(desk.path("nginx.conf"), text).unwrap();
    let _nginx = Server::start(
        Command::new(nginx)
            .arg("-p")
            .arg(desk.directory.path())
            .arg("-c")
            .arg(desk.path("nginx.conf")),
    );
    until("nginx listens", || TcpStream::connect(front).is_ok());
    assert_eq!(crate::access::said_to(front, [127, 0, 0, 5]), "one hello\n");
    assert_eq!(crate::access::said_to(front, [127, 0, 0, 6]), "");
}

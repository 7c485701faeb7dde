//! What must hold of any input to the parsers of our own; used by the fuzz targets and by the replay of
//! their corpora.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use ipreconnect::core::hello::{self, Hello};
use ipreconnect::core::names::Remembered;
use ipreconnect::resolve::{DnsServer, Record};
use ipreconnect::socket::register;
use ipreconnect::tls::{Certificate, Session};
use ipreconnect::{Target, Transport};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;

/// A name's last answer as it is kept on disk, and its records.
pub(crate) fn remembered(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(read) = Remembered::parse(text) {
        assert_eq!(Remembered::parse(&read.to_string()), Ok(read.clone()));
        for record in &read.records {
            if let Ok(read) = record.parse::<Record>() {
                assert_eq!(read.to_string().parse(), Ok(read));
            }
        }
    }
}

/// Addresses of origins and resolvers, as they are written in the configuration.
pub(crate) fn addresses(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(server) = text.parse::<DnsServer>() {
        assert_eq!(server.to_string().parse(), Ok(server));
    }
    if let Ok(target) = text.parse::<Target>() {
        // UDP is shown behind the address, as everywhere, and read before it.
        let shown = target.to_string();
        let written = match (target.transport(), shown.strip_suffix("/udp")) {
            (Some(Transport::Udp), Some(address)) => format!("udp://{address}"),
            _ => shown,
        };
        assert_eq!(written.parse(), Ok(target));
    }
    if let Ok(record) = text.parse::<Record>() {
        assert_eq!(record.to_string().parse(), Ok(record));
    }
}

/// The first bytes of a client: read as rustls reads them, where it takes them, and never read one way
/// when they are cut and another way when they are whole.
pub(crate) fn hello(input: &[u8]) {
    let Hello::Tls(whole) = hello::read(input) else {
        return;
    };
    for end in 0..input.len().min(512) {
        match hello::read(&input[..end]) {
            Hello::More => {}
            Hello::Tls(cut) => assert_eq!(cut, whole, "{end} bytes are read otherwise"),
            other => panic!("{end} bytes of a hello are {other:?}"),
        }
    }
    let mut acceptor = rustls::server::Acceptor::default();
    let mut rest = input;
    while !rest.is_empty() && acceptor.read_tls(&mut rest).is_ok_and(|count| count > 0) {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let read = accepted.client_hello().server_name().map(str::to_owned);
                if let (Some(read), Some(name)) = (read, whole.name) {
                    let read = read.strip_suffix('.').unwrap_or(&read);
                    assert_eq!(read.to_ascii_lowercase(), name);
                }
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// A certificate of a stranger; what is shown of it fits a line of a log.
pub(crate) fn certificate(input: &[u8]) {
    if let Ok(certificate) = Certificate::read(input) {
        let shown = certificate.to_string();
        assert!(!shown.chars().any(char::is_control), "{shown:?}");
    }
}

/// A server's side of TLS that hears anything, in pieces.
pub(crate) fn session(input: &[u8]) {
    thread_local! {
        static CONFIG: Arc<ServerConfig> = server();
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (client, server) = UnixStream::pair().unwrap();
        let mut session = Session::server(CONFIG.with(Arc::clone)).unwrap();
        client.set_nonblocking(true).unwrap();
        server.set_nonblocking(true).unwrap();
        let server = register(server.into()).unwrap();
        let talk = async {
            for piece in input.chunks(input.len() / 3 + 1) {
                // What does not fit is not needed to find out what is wrong.
                let _ = (&client).write(piece);
                tokio::task::yield_now().await;
            }
            let _ = client.shutdown(std::net::Shutdown::Write);
        };
        let (made, ()) = tokio::join!(session.handshake(&server), talk);
        assert!(made.is_err(), "nobody can have proven anything");
    });
}

fn server() -> Arc<ServerConfig> {
    let made = rcgen::generate_simple_self_signed(["corpus.test".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![made.cert.der().clone()];
    let config = ServerConfig::builder_with_provider(ipreconnect::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config)
}

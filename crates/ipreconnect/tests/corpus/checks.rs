//! What must hold of any input to the parsers of our own; used by the fuzz targets and by the replay of
//! their corpora.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipreconnect::core::access::{
    Files, Host, Names, Rule, Rules, Source, Verdict, Visitor, World, read_hba, read_ident,
};
use ipreconnect::core::carried::{self, Header};
use ipreconnect::core::forward::{Places, Target as Wanted, socks};
use ipreconnect::core::hello::{self, Hello};
use ipreconnect::core::http::{
    Chunked, Field, Known, Parsed, PathRule, Pattern, RequestHead, ResponseHead, is_token, normal,
    path_of, query_of,
};
use ipreconnect::core::names::Remembered;
use ipreconnect::core::postgres::{self, Opening};
use ipreconnect::core::tap::{Reader, Side, hex, masked};
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

/// One file, and no other one.
struct Alone<'a>(&'a [u8]);

impl Files for Alone<'_> {
    fn read(&mut self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        Ok((path == Path::new("/file")).then(|| self.0.to_vec()))
    }

    fn list(&mut self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(vec![PathBuf::from("/file")])
    }
}

struct Anywhere;

impl World for Anywhere {
    fn is_own_address(&self, address: IpAddr) -> bool {
        address == IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1))
    }

    fn is_own_network(&self, address: IpAddr) -> bool {
        matches!(address, IpAddr::V4(address) if address.octets()[0] == 10)
    }

    fn is_member(&self, user: &[u8], role: &str) -> bool {
        user == role.as_bytes()
    }

    fn proves(&self, _: &Rule, is_meant: &dyn Fn(&[u8]) -> bool) -> bool {
        is_meant(b"ann")
    }

    fn host(&self) -> Host<'_> {
        Host::Named("db.example.com")
    }
}

/// A file of rules: what decides by the index is what decides when all are looked at in order.
pub(crate) fn hba(input: &[u8]) {
    let Ok(rules) = read_hba(Path::new("/file"), &mut Alone(input)) else {
        return;
    };
    let sources = [
        Source::Local,
        Source::Ip(Ipv4Addr::LOCALHOST.into()),
        Source::Ip(Ipv4Addr::new(10, 0, 0, 1).into()),
        Source::Ip(Ipv6Addr::LOCALHOST.into()),
    ];
    for names in [Names::Said, Names::Proven] {
        let rules = Rules::new(rules.clone(), names);
        for (at, source) in sources.into_iter().enumerate() {
            let visitor = Visitor {
                source,
                is_tls: at % 2 == 0,
                user: (names == Names::Said).then_some(b"ann"),
                database: Some(b"sales"),
                is_replication: at == 3,
            };
            let decided = match rules.decide(&visitor, &Anywhere) {
                Verdict::Rule(rule) => Some(std::ptr::from_ref(rule)),
                Verdict::None => None,
                Verdict::NeedsHost => panic!("the host is known"),
            };
            let mut looked = rules.explain(&visitor, &Anywhere);
            let found = looked.find(|(_, mismatch)| mismatch.is_none());
            assert_eq!(decided, found.map(|(rule, _)| std::ptr::from_ref(rule)));
        }
    }
}

/// A file of maps: whoever is given a name by one may have it.
pub(crate) fn ident(input: &[u8]) {
    let Ok(maps) = read_ident(Path::new("/file"), &mut Alone(input)) else {
        return;
    };
    for system in [&b"ann"[..], b"bob@corp", b"", b"\xff"] {
        for map in [None, Some(""), Some("staff")] {
            if let Some(name) = maps.name(map, system) {
                assert!(maps.permit(map, system, &name, &|_, _| false));
            }
            let _ = maps.permit(map, system, b"ann", &|user, role| user == role.as_bytes());
        }
    }
}

/// The header of a proxy: a whole one is the same with anything behind it, and nothing before it is whole.
pub(crate) fn carried(input: &[u8]) {
    let read = carried::read(input);
    if let Header::Whole(length, _) = &read {
        let whole = input.get(..*length).unwrap();
        assert_eq!(carried::read(whole), read);
        for end in 0..*length {
            assert_eq!(carried::read(&whole[..end]), Header::More);
        }
    }
}

/// What a client of PostgreSQL says first, in the same way; and what it answers.
pub(crate) fn startup(input: &[u8]) {
    let read = postgres::read(input);
    if let Opening::Packet(length, _) = &read {
        let whole = input.get(..*length).unwrap();
        assert_eq!(postgres::read(whole), read);
        for end in 0..*length {
            assert_eq!(postgres::read(&whole[..end]), Opening::More);
        }
    }
    if let postgres::Answer::Whole(length, inside) = postgres::answer(input) {
        assert!(length <= input.len());
        let _ = postgres::password(&inside);
        let _ = postgres::sasl_initial(&inside);
    }
    let _ = postgres::asks(input);
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

/// A request, or an answer, of HTTP/1: what is taken has one reading, however it is cut.
pub(crate) fn message(input: &[u8]) {
    let mut request = RequestHead::default();
    if request.parse(input) == Ok(Parsed::Whole) {
        let (head, rest) = input.split_at(request.length);
        is_strict(head, &request.fields);
        let count = |known| {
            request
                .fields
                .iter()
                .filter(|one| one.known == known)
                .count()
        };
        assert!(count(Known::Host) <= 1);
        assert!(count(Known::ContentLength) + count(Known::TransferEncoding) <= 1);
        let target = request.target.of(head);
        assert!(target.is_empty() || matches!(target[0], b'/' | b'*'));
        for end in 0..head.len().min(512) {
            let cut = RequestHead::default().parse(&head[..end]);
            assert_eq!(cut, Ok(Parsed::Partial), "{end} bytes are read otherwise");
        }
        chunks(rest);
    }
    let mut response = ResponseHead::default();
    if response.parse(input) == Ok(Parsed::Whole) {
        let (head, rest) = input.split_at(response.length);
        is_strict(head, &response.fields);
        assert!((100..600).contains(&response.status));
        chunks(rest);
    }
    chunks(input);
}

/// Lines end in one way, and names and values hold nothing that could be taken for the end of one.
fn is_strict(head: &[u8], fields: &[Field]) {
    assert!(head.ends_with(b"\r\n\r\n"));
    for (at, byte) in head.iter().enumerate() {
        match byte {
            b'\n' => assert_eq!(head[at - 1], b'\r'),
            b'\r' => assert_eq!(head[at + 1], b'\n'),
            0 => panic!("a zero is in a head"),
            _ => {}
        }
    }
    for field in fields {
        assert!(is_token(field.name.of(head)));
        assert!(
            !field
                .value
                .of(head)
                .iter()
                .any(|byte| matches!(byte, b'\r' | b'\n' | 0))
        );
    }
}

/// A body in chunks says the same whole and byte by byte.
fn chunks(input: &[u8]) {
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut chunked, mut data, mut used) = (Chunked::default(), Vec::new(), 0);
        for piece in pieces {
            match chunked.read(piece, |part| data.extend_from_slice(part)) {
                Ok(count) => used += count,
                Err(error) => return Err(error),
            }
        }
        Ok((data, used, chunked.is_done(), chunked.trailers().to_vec()))
    };
    let whole = read(&mut std::iter::once(input));
    assert_eq!(whole, read(&mut input.chunks(1)));
    assert_eq!(whole, read(&mut input.chunks(7)));
}

/// What a route says of paths, in the first line, and a path.
pub(crate) fn route(input: &[u8]) {
    let mut lines = input.splitn(2, |byte| *byte == b'\n');
    let (rule, path) = (
        lines.next().unwrap_or_default(),
        lines.next().unwrap_or_default(),
    );
    let path = [b"/", path].concat();
    let target = path_of(&path);
    let plain = normal(target);
    assert_eq!(plain.first(), Some(&b'/'));
    assert!(
        !plain
            .split(|byte| *byte == b'/')
            .any(|one| matches!(one, b"." | b".."))
    );
    assert_eq!([path_of(&path), query_of(&path)].concat(), path);
    let Ok(text) = std::str::from_utf8(rule) else {
        return;
    };
    if let Ok(rule) = PathRule::new(text) {
        let below = [plain.strip_suffix(b"/").unwrap_or(&plain), b"/below"].concat();
        if let PathRule::Prefix(_) = rule {
            assert!(
                !rule.matches(&plain) || rule.matches(&below),
                "what is below goes elsewhere"
            );
        }
        let _ = rule.matches(&plain);
    }
    if let Ok(pattern) = Pattern::new(text) {
        let _ = pattern.matches(&path);
    }
}

/// What passes, made readable: the first byte says of what kind it is.
pub(crate) fn tapped(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else {
        return;
    };
    let lines = match kind % 4 {
        0 => masked(bytes),
        1 => hex(bytes),
        kind => {
            let side = if kind == 2 {
                Side::Frontend
            } else {
                Side::Backend
            };
            let mut lines = Reader::new(side).read(bytes);
            let mut pieces = Reader::new(side);
            for piece in bytes.chunks(7) {
                lines.extend(pieces.read(piece));
            }
            lines
        }
    };
    for line in lines {
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

/// Where somebody wants to go: read once more, what was read is the same.
pub(crate) fn target(input: &[u8]) {
    let again = |target: &Wanted| Wanted::authority(target.to_string().as_bytes());
    if let Ok(target) = Wanted::authority(input) {
        assert_eq!(again(&target), Ok(target));
    }
    if let Ok(target) = Wanted::or_port(input, 80) {
        assert_eq!(again(&target), Ok(target));
    }
    let mut places = Places::default();
    if let Ok(text) = std::str::from_utf8(input) {
        places.read("list", text);
        places.finish();
    }
}

/// What clients of SOCKS say: what is whole is whole with anything behind it, and less of it is not.
pub(crate) fn socks(input: &[u8]) {
    fn holds<T: PartialEq + std::fmt::Debug>(
        input: &[u8],
        read: impl Fn(&[u8]) -> Result<socks::Read<T>, socks::SocksError>,
    ) {
        if let Ok(socks::Read::Whole(_, used)) = read(input) {
            let said = &input[..used];
            let more = [said, b"more"].concat();
            assert_eq!(read(said), read(&more));
            for end in 0..used {
                assert_eq!(read(&said[..end]), Ok(socks::Read::Partial));
            }
        }
    }
    holds(input, socks::greeting);
    holds(input, socks::password);
    holds(input, socks::request);
    holds(input, socks::request_v4);
    if let Ok((_, data)) = socks::datagram(input) {
        assert!(input.ends_with(data));
    }
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

//! What must hold of any input to the parsers of our own; used by the fuzz targets and by the replay of
//! their corpora.

use ipreconnect::core::names::Remembered;
use ipreconnect::resolve::{DnsServer, Record};
use ipreconnect::{Target, Transport};

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

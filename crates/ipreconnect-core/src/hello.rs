//! The first message of a TLS client, as far as it says where the client wants to go (RFC 8446,
//! section 4.1.2; RFC 6066, section 3). Nothing is decrypted, and nothing is needed to be.

/// Bytes of a hello that are looked at; a client that needs more is not served.
pub const LONGEST: usize = 16 * 1024;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const HOST_NAME: u8 = 0;
/// The longest fragment of a record (RFC 8446, section 5.1).
const FRAGMENT: usize = 1 << 14;
/// The longest name (RFC 1035, section 2.3.4).
const NAME: usize = 253;

/// What the first bytes of a connection are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hello {
    /// A whole ClientHello.
    Tls(ClientHello),
    /// The beginning of one.
    More,
    /// A ClientHello that is broken, or too long.
    Broken,
    /// Something else.
    NotTls,
}

/// What a client wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The name it asks for (SNI), in lower case.
    pub name: Option<String>,
    /// The protocols it offers (ALPN), the preferred one first.
    pub protocols: Vec<Vec<u8>>,
}

/// Reads the first bytes of a connection.
#[must_use]
pub fn read(bytes: &[u8]) -> Hello {
    match message(bytes) {
        Ok(message) => client_hello(&message).map_or(Hello::Broken, Hello::Tls),
        Err(other) if other == Hello::More && bytes.len() >= LONGEST => Hello::Broken,
        Err(other) => other,
    }
}

/// The body of the ClientHello, put together from its records.
fn message(bytes: &[u8]) -> Result<Vec<u8>, Hello> {
    let mut rest = bytes;
    let mut message = Vec::new();
    loop {
        match rest.first() {
            None => return Err(Hello::More),
            Some(&HANDSHAKE) => {}
            Some(_) if message.is_empty() => return Err(Hello::NotTls),
            Some(_) => return Err(Hello::Broken),
        }
        if rest.get(1).is_some_and(|major| *major != 3) {
            return Err(if message.is_empty() {
                Hello::NotTls
            } else {
                Hello::Broken
            });
        }
        let Some((header, after)) = rest.split_first_chunk::<5>() else {
            return Err(Hello::More);
        };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        if length == 0 || length > FRAGMENT {
            return Err(Hello::Broken);
        }
        let fragment = after.get(..length);
        message.extend_from_slice(fragment.unwrap_or(after));
        if message.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Err(Hello::Broken);
        }
        if let Some(&[_, high, mid, low]) = message.first_chunk::<4>() {
            let wanted = usize::try_from(u32::from_be_bytes([0, high, mid, low]));
            let wanted = wanted.unwrap_or(usize::MAX);
            if wanted > LONGEST {
                return Err(Hello::Broken);
            }
            if let Some(body) = message.get(4..4 + wanted) {
                return Ok(body.to_vec());
            }
        }
        if fragment.is_none() {
            return Err(Hello::More);
        }
        rest = after.get(length..).unwrap_or_default();
    }
}

/// What is inside a ClientHello; `None` if the message is broken.
fn client_hello(body: &[u8]) -> Option<ClientHello> {
    let mut found = ClientHello::default();
    let mut fields = Fields(body);
    // legacy_version and random.
    fields.take(2 + 32)?;
    fields.short()?;
    let suites = fields.long()?;
    let methods = fields.short()?;
    if suites.len() < 2 || !suites.len().is_multiple_of(2) || methods.is_empty() {
        return None;
    }
    if fields.0.is_empty() {
        // Before TLS 1.3 there may be no extensions at all.
        return Some(found);
    }
    let mut extensions = Fields(fields.long()?);
    if !fields.0.is_empty() {
        return None;
    }
    let mut seen = [false; 2];
    while !extensions.0.is_empty() {
        let kind = extensions.number()?;
        let value = extensions.long()?;
        let first = |seen: &mut bool| (!std::mem::replace(seen, true)).then_some(());
        match kind {
            SERVER_NAME => {
                first(&mut seen[0])?;
                found.name = Some(host_name(value)?);
            }
            PROTOCOLS => {
                first(&mut seen[1])?;
                found.protocols = protocols(value)?;
            }
            _ => {}
        }
    }
    Some(found)
}

/// A list of protocols (RFC 7301, section 3.1).
fn protocols(list: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut fields = Fields(list);
    let mut names = Fields(fields.long()?);
    if !fields.0.is_empty() || names.0.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !names.0.is_empty() {
        let name = names.short()?;
        if name.is_empty() {
            return None;
        }
        protocols.push(name.to_vec());
    }
    Some(protocols)
}

/// The one host name of a list of names.
fn host_name(list: &[u8]) -> Option<String> {
    let mut fields = Fields(list);
    let mut names = Fields(fields.long()?);
    if !fields.0.is_empty() {
        return None;
    }
    let kind = names.take(1)?;
    let name = names.long()?;
    let is_host = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    if kind != [HOST_NAME]
        || !names.0.is_empty()
        || name.is_empty()
        || name.len() > NAME
        || !name.iter().all(is_host)
    {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    Some(name.to_ascii_lowercase())
}

/// Fields with their lengths before them (RFC 8446, section 3.4).
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let taken = self.take(2)?;
        Some(u16::from_be_bytes(taken.try_into().ok()?))
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = self.take(1)?.first().copied()?;
        self.take(usize::from(length))
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(usize::from(length))
    }
}

#[cfg(test)]
mod tests;

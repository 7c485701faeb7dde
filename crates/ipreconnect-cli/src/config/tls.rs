//! `[origin.NAME.tls]` and `tls` of `[[listen]]`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipreconnect::core::identity::{KeyId, OnKeyChange};
use ipreconnect::resolve::Roots;
use ipreconnect::tls::{ClientIdentity, Opening, TlsSettings, Verification};
use ipreconnect_proxy::{ClientAuth, HostPattern, MinVersion};
use rustls::pki_types::ServerName;
use toml::de::DeValue;

use super::material::{self, Pair, PairFiles, Permissions};
use super::section::{Field, Section};

/// Pins of one origin.
const PINS: usize = 64;
/// Certificates of one listener.
const PAIRS: usize = 256;
/// Protocols of one list.
const PROTOCOLS: usize = 16;

/// The files that an origin's TLS is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OriginFiles {
    ca: Option<PathBuf>,
    client: Option<PairFiles>,
}

impl OriginFiles {
    /// Every file, to be watched.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let client = self.client.iter().flat_map(PairFiles::paths);
        self.ca.as_deref().into_iter().chain(client)
    }

    /// The same settings, with what the files hold now.
    pub(crate) fn read(
        &self,
        settings: &TlsSettings,
        permissions: Permissions,
    ) -> Result<TlsSettings, String> {
        let mut settings = settings.clone();
        if let Some(ca) = &self.ca {
            let ders = material::certificates(ca)?;
            let ders: Vec<Vec<u8>> = ders.iter().map(|der| der.to_vec()).collect();
            settings.roots = Roots::Only(ders.into());
        }
        if let Some(client) = &self.client {
            let pair = client.read(permissions)?;
            settings.identity = Some(ClientIdentity::from_pair(pair.0));
        }
        Ok(settings)
    }
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Files(Vec<PairFiles>),
    /// A local authority, for the listener's own names and these.
    Internal(Vec<String>),
    /// An ACME server.
    Acme(AcmePlan),
}

impl Source {
    fn files(&self) -> &[PairFiles] {
        match self {
            Self::Files(files) => files,
            Self::Internal(_) | Self::Acme(_) => &[],
        }
    }
}

/// How certificates are had from an ACME server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmePlan {
    pub(crate) names: Vec<String>,
    pub(crate) directory: String,
    pub(crate) contact: Vec<String>,
    pub(crate) challenge: Challenge,
    /// The only root that the server's own certificate may lead to.
    pub(crate) ca: Option<PathBuf>,
}

/// How a name is proven to be ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// On the listener itself, which the server reaches at port 443.
    TlsAlpn,
    /// At this address, which the server reaches at port 80.
    Http(SocketAddr),
}

/// The one whose roots everybody trusts.
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";

/// TLS of one listener.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListenTls {
    pub(crate) source: Source,
    client_ca: Option<PathBuf>,
    pub(crate) client_auth: ClientAuth,
    pub(crate) min_version: MinVersion,
    pub(crate) alpn: Vec<Vec<u8>>,
    /// What the files hold.
    pub(crate) pairs: Vec<Pair>,
    pub(crate) client_roots: Vec<Vec<u8>>,
}

impl ListenTls {
    /// Every file, to be watched.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.source.files().iter().flat_map(PairFiles::paths);
        self.client_ca.as_deref().into_iter().chain(pairs)
    }

    /// The same, with what the files hold now.
    pub(crate) fn read(&self, permissions: Permissions) -> Result<Self, String> {
        let mut new = self.clone();
        let files = self.source.files().iter();
        let pairs: Result<Vec<Pair>, String> = files.map(|files| files.read(permissions)).collect();
        new.pairs = pairs?;
        if let Some(ca) = &self.client_ca {
            let ders = material::certificates(ca)?;
            new.client_roots = ders.iter().map(|der| der.to_vec()).collect();
        }
        Ok(new)
    }

    /// Whether clients are asked for a certificate.
    pub(crate) fn asks_clients(&self) -> bool {
        self.client_ca.is_some()
    }
}

/// Reads an origin's; relative paths are relative to `base`.
pub(super) fn of_origin(
    field: &Field<'_>,
    base: &Path,
    permissions: Permissions,
) -> Option<(TlsSettings, OriginFiles)> {
    let table = field.table()?;
    let mut settings = TlsSettings::default();
    if let Some(field) = table.field("server_name") {
        settings.server_name = server_name(&field);
    }
    let path = |field: &Field<'_>| field.text().map(|text| base.join(text));
    let ca = table.field("ca");
    let cert = table.field("client_cert");
    let key = table.field("client_key");
    if let Some(field) = table.field("pins") {
        settings.pins = pins(&field);
    }
    verification(&table, &mut settings, ca.as_ref());
    let words = [
        ("verify", OnKeyChange::Verify),
        ("alarm", OnKeyChange::Alarm),
        ("refuse", OnKeyChange::Refuse),
    ];
    if let Some(policy) = table.choice("on_key_change", &words) {
        settings.on_key_change = policy;
    }
    if let Some(field) = table.field("alpn") {
        settings.alpn = alpn(&field);
    }
    if let Some(opening) = table.choice("starttls", &[("postgres", Opening::Postgres)]) {
        settings.opening = opening;
    }
    table.finish();
    let client = match (&cert, &key) {
        (Some(cert_field), key_field) => {
            let cert = path(cert_field)?;
            let key = match key_field {
                Some(field) => path(field)?,
                None => cert.clone(),
            };
            let ocsp = None;
            Some(PairFiles { cert, key, ocsp })
        }
        (None, Some(field)) => {
            field.wrong("needs `client_cert` beside it", "");
            None
        }
        (None, None) => None,
    };
    let files = OriginFiles {
        ca: ca.as_ref().and_then(path),
        client,
    };
    match files.read(&settings, permissions) {
        Ok(settings) => Some((settings, files)),
        Err(why) => {
            let place = cert.as_ref().or(ca.as_ref()).unwrap_or(field);
            place.wrong(&format!("cannot be used: {why}"), "");
            None
        }
    }
}

/// `verify = false` is an accident waiting to happen, and wants a second word.
fn verification(table: &Section<'_>, settings: &mut TlsSettings, ca: Option<&Field<'_>>) {
    let verify = table.field("verify");
    let insecure = table.field("insecure");
    let is_off = verify.as_ref().and_then(Field::boolean) == Some(false);
    let is_insecure = insecure.as_ref().and_then(Field::boolean) == Some(true);
    match (is_off, is_insecure) {
        (true, true) => settings.verification = Verification::Off,
        (true, false) => {
            if let Some(field) = &verify {
                let hint = "an own CA is trusted by `ca = \"ca.pem\"`; if it must be, write `insecure = true` beside it";
                field.wrong(
                    "cannot be false: whoever is in between could read everything",
                    hint,
                );
            }
        }
        (false, true) => {
            if let Some(field) = &insecure {
                field.wrong("goes with `verify = false` only", "leave it out");
            }
        }
        (false, false) => {}
    }
    if let (true, Some(ca)) = (is_off, ca) {
        ca.wrong(
            "says nothing while `verify` is false",
            "leave one of them out",
        );
    }
}

fn server_name(field: &Field<'_>) -> Option<ServerName<'static>> {
    let text = field.text()?;
    let name = ServerName::try_from(text.clone()).ok();
    if name.is_none() {
        let hint = "a host name or an IP address, as it stands in the server's certificate";
        field.wrong(&format!("cannot be {text:?}"), hint);
    }
    name
}

fn pins(field: &Field<'_>) -> Arc<[KeyId]> {
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > PINS {
        field.wrong(&format!("must have from 1 to {PINS} pins"), "");
        return Arc::default();
    }
    let mut pins = Vec::with_capacity(fields.len());
    for field in &fields {
        let Some(text) = field.text() else {
            continue;
        };
        match text.parse::<KeyId>() {
            Ok(pin) => pins.push(pin),
            Err(error) => {
                let hint = "`ipreconnect probe` shows the pin of a server";
                field.wrong(&format!("cannot be {text:?}: {error}"), hint);
            }
        }
    }
    pins.into()
}

fn alpn(field: &Field<'_>) -> Vec<Vec<u8>> {
    let fields = field.one_or_many();
    if fields.len() > PROTOCOLS {
        field.wrong(&format!("must have at most {PROTOCOLS} protocols"), "");
    }
    let mut protocols = Vec::new();
    for field in &fields {
        let Some(text) = field.text() else {
            continue;
        };
        if text.is_empty() || text.len() > 255 {
            let hint = "protocols look like \"h2\", \"http/1.1\", \"postgresql\"";
            field.wrong(&format!("cannot be {text:?}"), hint);
        }
        protocols.push(text.into_bytes());
    }
    protocols
}

/// Reads a listener's; relative paths are relative to `base`.
pub(super) fn of_listener(
    field: &Field<'_>,
    base: &Path,
    permissions: Permissions,
) -> Option<ListenTls> {
    let fields = field.one_or_many();
    if fields.is_empty() || fields.len() > PAIRS {
        field.wrong(&format!("must have from 1 to {PAIRS} certificates"), "");
        return None;
    }
    let mut common = Common::default();
    let mut files = Vec::with_capacity(fields.len());
    let mut made = None;
    for one in &fields {
        if !one.is_table() {
            if !matches!(one.value.get_ref(), DeValue::String(_)) {
                let hint = "tls = { cert = \"site.pem\", key = \"site.key\" }";
                one.wrong("must be a table, or \"internal\"", hint);
                return None;
            }
            let text = one.text()?;
            one.pick(&text, &[("internal", ())])?;
            made = Some(Source::Internal(Vec::new()));
            continue;
        }
        let table = one.table()?;
        match source(&table, base) {
            Some(source) => made = Some(source?),
            None => files.push(pair(one, &table, base)),
        }
        common.read(&table, base);
        table.finish();
    }
    let files: Option<Vec<PairFiles>> = files.into_iter().collect();
    let files = files?;
    if made.is_some() && fields.len() > 1 {
        field.wrong(
            "cannot mix certificates that are made with others",
            "give the others a listener of their own",
        );
        return None;
    }
    let empty = ListenTls {
        source: made.unwrap_or(Source::Files(files)),
        client_ca: common.client_ca,
        client_auth: common.client_auth,
        min_version: common.min_version,
        alpn: common.alpn,
        pairs: Vec::new(),
        client_roots: Vec::new(),
    };
    match empty.read(permissions) {
        Ok(tls) => Some(tls),
        Err(why) => {
            field.wrong(&format!("cannot be used: {why}"), "");
            None
        }
    }
}

/// Where certificates that are made come from; the inner `None` is a mistake.
#[expect(clippy::option_option, reason = "not asked for, wrong, right")]
fn source(table: &Section<'_>, base: &Path) -> Option<Option<Source>> {
    if let Some(field) = table.field("internal") {
        return Some(names(&field).map(Source::Internal));
    }
    let acme = table.field("acme")?;
    Some(acme_plan(&acme, base).map(Source::Acme))
}

fn names(field: &Field<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for one in field.one_or_many() {
        let text = one.text()?;
        match text.parse::<HostPattern>() {
            Ok(pattern) => names.push(pattern.to_string()),
            Err(error) => {
                one.wrong(&format!("cannot be {text:?}: {error}"), "");
                return None;
            }
        }
    }
    Some(names)
}

fn acme_plan(field: &Field<'_>, base: &Path) -> Option<AcmePlan> {
    let table = field.table()?;
    let own = table.field("names");
    let directory = table.text("directory").unwrap_or(LETS_ENCRYPT.to_owned());
    let contact = table.field("contact");
    let contact = contact.map(|field| field.one_or_many()).unwrap_or_default();
    let contact: Vec<String> = contact.iter().filter_map(Field::text).collect();
    let words = [("tls-alpn-01", false), ("http-01", true)];
    let by_http = table.choice("challenge", &words).unwrap_or(false);
    let http = table.field("http");
    let ca = table.text("ca");
    let agreed = table.boolean("terms_agreed");
    table.finish();
    let Some(own) = own else {
        field.wrong("needs `names`", "names = [\"shop.example\"]");
        return None;
    };
    let names = names(&own)?;
    if names.is_empty() || names.iter().any(|name| name.starts_with("*.")) {
        let hint = "wildcards are proven by DNS records, which is not built";
        own.wrong("must have names without wildcards", hint);
        return None;
    }
    if agreed != Some(true) {
        let hint = "read the terms of the ACME server, then write `terms_agreed = true`";
        field.wrong("needs `terms_agreed = true`", hint);
        return None;
    }
    if !directory.starts_with("https://") {
        field.wrong("has a `directory` that does not begin with https://", "");
        return None;
    }
    let challenge = match (by_http, http) {
        (false, None) => Challenge::TlsAlpn,
        (false, Some(http)) => {
            http.wrong("goes with `challenge = \"http-01\"` only", "");
            return None;
        }
        (true, None) => Challenge::Http(SocketAddr::from(([0, 0, 0, 0], 80))),
        (true, Some(http)) => {
            let text = http.text()?;
            let address = text.parse().ok();
            if address.is_none() {
                http.wrong(&format!("cannot be {text:?}"), "http = \"0.0.0.0:80\"");
            }
            Challenge::Http(address?)
        }
    };
    Some(AcmePlan {
        names,
        directory,
        contact,
        challenge,
        ca: ca.map(|ca| base.join(ca)),
    })
}

fn pair(field: &Field<'_>, table: &Section<'_>, base: &Path) -> Option<PairFiles> {
    let cert = table.text("cert");
    let key = table.text("key");
    let ocsp = table.text("ocsp");
    let Some(cert) = cert else {
        field.wrong(
            "needs `cert`",
            "{ cert = \"site.pem\", key = \"site.key\" }",
        );
        return None;
    };
    Some(PairFiles {
        key: base.join(key.as_deref().unwrap_or(&cert)),
        cert: base.join(cert),
        ocsp: ocsp.map(|ocsp| base.join(ocsp)),
    })
}

/// What is said once for all certificates of a listener.
#[derive(Default)]
struct Common {
    client_ca: Option<PathBuf>,
    client_auth: ClientAuth,
    min_version: MinVersion,
    alpn: Vec<Vec<u8>>,
}

impl Common {
    fn read(&mut self, table: &Section<'_>, base: &Path) {
        if let Some(ca) = table.text("client_ca") {
            self.client_ca = Some(base.join(ca));
        }
        if let Some(field) = table.field("client_auth") {
            let words = [
                ("required", ClientAuth::Required),
                ("optional", ClientAuth::Optional),
            ];
            let text = field.text().unwrap_or_default();
            self.client_auth = field.pick(&text, &words).unwrap_or_default();
            if self.client_ca.is_none() {
                field.wrong(
                    "needs `client_ca` beside it",
                    "client_ca = \"clients-ca.pem\"",
                );
            }
        }
        let words = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
        if let Some(version) = table.choice("min_version", &words) {
            self.min_version = version;
        }
        if let Some(field) = table.field("alpn") {
            self.alpn = alpn(&field);
        }
    }
}

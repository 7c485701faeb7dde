//! Certificates and keys of a configuration.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use ipreconnect::core::identity::OnKeyChange;
use ipreconnect::core::origin::Check;
use ipreconnect::resolve::Roots;
use ipreconnect::tls::{Opening, Verification};
use rcgen::{CertificateParams, KeyPair};

use super::super::refresh::refreshed;
use super::*;

const PIN: &str = "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Writes a self-signed pair, `NAME.pem` and `NAME.key`.
fn write_pair(directory: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![format!("{name}.example")]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    write(directory, &format!("{name}.pem"), &certificate.pem(), 0o644);
    write(
        directory,
        &format!("{name}.key"),
        &key.serialize_pem(),
        0o600,
    );
}

fn write(directory: &Path, file: &str, text: &str, mode: u32) {
    let path = directory.join(file);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with pairs `site`, `shop` and `ours`.
fn desk() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for name in ["site", "shop", "ours"] {
        write_pair(directory.path(), name);
    }
    directory
}

fn loaded(directory: &tempfile::TempDir, text: &str) -> Result<Loaded, Mistakes> {
    let path = directory.path().join("c.toml");
    std::fs::write(&path, text).unwrap();
    load(Some(&path), &environment())
}

/// The mistakes, with the directory's own path taken out.
fn told(directory: &tempfile::TempDir, text: &str) -> String {
    let mistakes = loaded(directory, text).expect_err("there must be a mistake");
    let place = format!("{}/", directory.path().display());
    mistakes.render(Colour::No).replace(&place, "")
}

fn origin(lines: &str) -> String {
    format!("[origin.a]\naddress = \"db.example:5432\"\n[origin.a.tls]\n{lines}\n")
}

fn listener(lines: &str) -> String {
    format!(
        "[origin.a]\naddress = \"h:1\"\n[[listen]]\naddress = \"127.0.0.1:1\"\norigin = \"a\"\n{lines}\n"
    )
}

#[test]
fn tls_of_an_origin_is_verified_unless_two_words_say_otherwise() {
    let desk = desk();
    let plan = loaded(&desk, &origin("")).unwrap().plan;
    let a = &plan.origins["a"].settings;
    let tls = a.tls.as_ref().unwrap();
    assert_eq!(tls.verification, Verification::Full);
    assert_eq!(tls.roots, Roots::System);
    assert_eq!(a.supervisor.check, Check::Proof);

    let all = format!(
        "server_name = \"pay.example\"\nca = \"site.pem\"\nclient_cert = \"ours.pem\"\nclient_key = \"ours.key\"\n\
         pins = [\"{PIN}\"]\non_key_change = \"refuse\"\nalpn = [\"postgresql\"]\nstarttls = \"postgres\""
    );
    let plan = loaded(&desk, &origin(&all)).unwrap().plan;
    let tls = plan.origins["a"].settings.tls.as_ref().unwrap();
    assert!(matches!(&tls.roots, Roots::Only(roots) if roots.len() == 1));
    assert!(tls.identity.is_some());
    assert_eq!(tls.pins[0].to_string(), PIN);
    assert_eq!(tls.on_key_change, OnKeyChange::Refuse);
    assert_eq!(tls.opening, Opening::Postgres);

    let off = origin("verify = false\ninsecure = true");
    let plan = loaded(&desk, &off).unwrap().plan;
    let tls = plan.origins["a"].settings.tls.as_ref().unwrap();
    assert_eq!(tls.verification, Verification::Off);
    assert!(show(&plan).text().contains("INSECURE"));

    let scheme = "[origin.a]\naddress = [\"tls://a.example:1\", \"tls://b.example:1\"]\n";
    let plan = loaded(&desk, scheme).unwrap().plan;
    assert!(plan.origins["a"].settings.tls.is_some());
}

#[test]
fn mistakes_in_the_tls_of_an_origin() {
    let desk = desk();
    for (lines, words) in [
        ("verify = false", "cannot be false: whoever is in between"),
        ("insecure = true", "goes with `verify = false` only"),
        (
            "verify = false\ninsecure = true\nca = \"site.pem\"",
            "says nothing while `verify` is false",
        ),
        (
            "ca = \"none.pem\"",
            "cannot be used: none.pem: No such file",
        ),
        (
            "ca = \"site.key\"",
            "cannot be used: site.key has no certificate in PEM",
        ),
        ("client_key = \"ours.key\"", "needs `client_cert` beside it"),
        (
            "client_cert = \"ours.pem\"\nclient_key = \"site.key\"",
            "the key is not the one of the certificate",
        ),
        (
            "client_cert = \"ours.pem\"",
            "ours.pem has no private key in PEM",
        ),
        ("pins = [\"sha256/AAAA\"]", "a SHA-256 has 32 bytes"),
        ("pins = [\"md5/AAAA\"]", "a pin begins with sha256/"),
        ("pins = []", "must have from 1 to 64 pins"),
        ("server_name = \"a b\"", "cannot be \"a b\""),
        ("on_key_change = \"refuze\"", "did you mean `refuse`?"),
        ("starttls = \"smtp\"", "one of: postgres"),
    ] {
        let told = told(&desk, &origin(lines));
        assert!(told.contains(words), "{lines}: {told}");
    }
    let mixed = "[origin.a]\naddress = [\"tls://a.example:1\", \"b.example:1\"]\n";
    assert!(told(&desk, mixed).contains("has addresses with TLS and others without"));
    let socket = "[origin.a]\naddress = \"unix:/run/x\"\ntls = {}\n";
    assert!(told(&desk, socket).contains("needs `server_name`: unix:/run/x has no name to verify"));
    let udp = "[origin.a]\naddress = \"udp://h:1\"\ntls = {}\n";
    assert!(told(&desk, udp).contains("goes with TCP only"));
    let check = "[origin.a]\naddress = \"h:1\"\n[origin.a.health]\ncheck = \"tls\"\n";
    assert!(told(&desk, check).contains("cannot be \"tls\" of an origin without TLS"));
}

#[test]
fn a_listener_has_certificates_and_routes() {
    let desk = desk();
    let text = listener(
        "tls = [{ cert = \"site.pem\", key = \"site.key\", client_ca = \"ours.pem\", client_auth = \"optional\", min_version = \"1.3\" }, { cert = \"shop.pem\", key = \"shop.key\" }]\n\
         [[listen.route]]\nhost = [\"shop.example\", \"*.shop.example\"]\norigin = \"a\"",
    );
    let plan = loaded(&desk, &text).unwrap().plan;
    let listener = &plan.listeners["a"];
    let tls = listener.tls.as_ref().unwrap();
    assert_eq!(tls.pairs.len(), 2);
    assert_eq!(tls.client_roots.len(), 1);
    assert_eq!(listener.routes[0].hosts.len(), 2);
    let shown = show(&plan).text();
    for words in [
        "TLS as shop.example",
        "clients may have a certificate",
        "*.shop.example -> origin a",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    for text in [shown, format!("{plan:?}")] {
        assert!(!text.contains("PRIVATE"), "{text}");
    }
}

#[test]
fn mistakes_in_the_tls_of_a_listener() {
    let desk = desk();
    write(
        desk.path(),
        "loose.key",
        &std::fs::read_to_string(desk.path().join("site.key")).unwrap(),
        0o644,
    );
    write(
        desk.path(),
        "locked.key",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n",
        0o600,
    );
    write(
        desk.path(),
        "garbage.pem",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        0o644,
    );
    for (lines, words) in [
        ("tls = {}", "needs `cert`"),
        ("tls = true", "must be a table"),
        (
            "tls = { cert = \"site.pem\", key = \"shop.key\" }",
            "the key is not the one of the certificate",
        ),
        (
            "tls = { cert = \"site.pem\", key = \"loose.key\" }",
            "loose.key can be read by others (mode 644)",
        ),
        (
            "tls = { cert = \"site.pem\", key = \"locked.key\" }",
            "locked.key is encrypted",
        ),
        (
            "tls = { cert = \"garbage.pem\", key = \"site.key\" }",
            "garbage.pem has a certificate that is none",
        ),
        (
            "tls = { cert = \"site.pem\", key = \"site.key\", client_auth = \"required\" }",
            "needs `client_ca` beside it",
        ),
        (
            "tls = { cert = \"site.pem\", key = \"site.key\", min_version = \"1.1\" }",
            "cannot be \"1.1\"",
        ),
        (
            "tls = { cert = \"site.pem\", key = \"site.key\", ocsp = \"none\" }",
            "none: No such file",
        ),
        (
            "[[listen.route]]\nhost = \"a b\"\norigin = \"a\"",
            "this is neither a host name nor `*.` before one",
        ),
        (
            "[[listen.route]]\nhost = \"a.example\"\norigin = \"b\"",
            "there is no origin `b`",
        ),
        ("[[listen.route]]\nhost = \"a.example\"", "needs `origin`"),
    ] {
        let told = told(&desk, &listener(lines));
        assert!(told.contains(words), "{lines}: {told}");
    }
    let any = environment().with_permissions(Permissions::Any);
    let path = desk.path().join("c.toml");
    std::fs::write(
        &path,
        listener("tls = { cert = \"site.pem\", key = \"loose.key\" }"),
    )
    .unwrap();
    load(Some(&path), &any).unwrap();
}

#[test]
fn a_replaced_certificate_is_a_change_and_garbage_is_none() {
    let desk = desk();
    let text = listener("tls = { cert = \"site.pem\", key = \"site.key\" }")
        + &origin("ca = \"ours.pem\"").replace("origin.a", "origin.b");
    let plan = loaded(&desk, &text).unwrap().plan;
    let (same, wrong) = refreshed(&plan);
    assert_eq!((same == plan, wrong.len()), (true, 0));

    write_pair(desk.path(), "site");
    write_pair(desk.path(), "ours");
    let (new, wrong) = refreshed(&plan);
    assert!(wrong.is_empty(), "{wrong:?}");
    let changes: Vec<String> = diff(&plan, &new).iter().map(ToString::to_string).collect();
    assert_eq!(changes, ["origin \"b\" changed", "listener \"a\" rerouted"]);

    write(desk.path(), "site.pem", "garbage", 0o644);
    let (after, wrong) = refreshed(&new);
    assert_eq!(after, new);
    assert!(wrong[0].contains("listener \"a\""), "{wrong:?}");
}

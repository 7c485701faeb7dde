//! Origins that are made on the fly.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipreconnect::core::failure::Cause;
use ipreconnect::resolve::{DnsServer, DnsSettings, Names, PlainTransport};
use ipreconnect::{Host, Origin, OriginSettings, Vet};
use ipreconnect_lab::dns::NameServer;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use tokio::runtime::Handle;

use crate::scene::{ask, server, within};

/// Everything but this address.
#[derive(Debug)]
struct But(Option<IpAddr>);

impl Vet for But {
    fn vet(&self, ip: IpAddr) -> Result<(), String> {
        match self.0 {
            Some(refused) if refused == ip => Err(format!("{ip} is not for us")),
            _ => Ok(()),
        }
    }
}

fn names(server: &NameServer) -> Names {
    let settings = DnsSettings {
        servers: vec![DnsServer::Plain(server.address(), PlainTransport::Both)],
        hosts: "/nonexistent".into(),
        ..DnsSettings::default()
    };
    Names::start(&Handle::current(), settings, None)
}

fn light(host: &str, port: u16, but: Option<&str>, names: &Names) -> Origin {
    let host = match host.parse() {
        Ok(ip) => Host::Ip(ip),
        Err(_) => Host::Name(host.into()),
    };
    let vet = Arc::new(But(but.map(|ip| ip.parse().unwrap())));
    Origin::light((host, port), OriginSettings::new([]), vet, names)
}

async fn who(origin: &Origin) -> String {
    let mut link = within(10, origin.connect()).await.unwrap();
    ask(&mut link).await.unwrap()
}

async fn cause(origin: &Origin) -> (Cause, Option<String>) {
    let error = within(10, origin.connect()).await.unwrap_err();
    let failure = error.failure().unwrap();
    (failure.cause, failure.detail.as_deref().map(str::to_owned))
}

fn beside(other: &ScriptedOrigin, ip: [u8; 4], name: &str) -> ScriptedOrigin {
    let address = SocketAddr::from((ip, other.address().port()));
    ScriptedOrigin::start_at(address, Script::Answer { name: name.into() }).unwrap()
}

#[tokio::test]
async fn a_host_is_found_and_what_may_not_be_dialled_is_not() {
    let zone = NameServer::start().await.unwrap();
    let blue = server("blue");
    let port = blue.address().port();
    let names = names(&zone);
    zone.set("a.test", &["127.0.0.1"], Duration::from_secs(60));
    assert_eq!(who(&light("a.test", port, None, &names)).await, "blue");
    assert_eq!(who(&light("127.0.0.1", port, None, &names)).await, "blue");

    let refused = light("a.test", port, Some("127.0.0.1"), &names);
    let why = "127.0.0.1 is not for us".to_owned();
    assert_eq!(cause(&refused).await, (Cause::NotAllowed, Some(why)));
    // One of several that may be dialled is enough.
    zone.set(
        "b.test",
        &["127.0.0.9", "127.0.0.1"],
        Duration::from_secs(60),
    );
    let some = light("b.test", port, Some("127.0.0.9"), &names);
    assert_eq!(who(&some).await, "blue");
    assert_eq!(some.snapshot().view().endpoints.len(), 1);

    let nowhere = light("nowhere.test", port, None, &names);
    assert_eq!(cause(&nowhere).await.0, Cause::NoSuchName);
    let nothing = light("127.0.0.1", 1, None, &names);
    assert_eq!(cause(&nothing).await.0, Cause::Refused);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_next_time_is_judged_again() {
    let zone = NameServer::start().await.unwrap();
    let blue = server("blue");
    let green = beside(&blue, [127, 0, 0, 2], "green");
    zone.set("a.test", &["127.0.0.1"], Duration::ZERO);
    let names = names(&zone);
    let origin = light("a.test", blue.address().port(), Some("127.0.0.2"), &names);
    assert_eq!(who(&origin).await, "blue");
    zone.set("a.test", &["127.0.0.2"], Duration::ZERO);
    // What was judged is what is dialled, for as long as it holds.
    assert_eq!(who(&origin).await, "blue");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(cause(&origin).await.0, Cause::NotAllowed);
    drop(green);
}

#[tokio::test]
async fn a_host_that_has_moved_is_found_at_once() {
    let zone = NameServer::start().await.unwrap();
    let blue = server("blue");
    let green = beside(&blue, [127, 0, 0, 2], "green");
    zone.set("a.test", &["127.0.0.1"], Duration::from_secs(600));
    let names = names(&zone);
    let origin = light("a.test", blue.address().port(), None, &names);
    assert_eq!(who(&origin).await, "blue");
    zone.set("a.test", &["127.0.0.2"], Duration::from_secs(600));
    drop(blue);
    assert_eq!(who(&origin).await, "green");
    drop(green);
}

#[tokio::test]
async fn a_resolver_that_goes_away_takes_nobody_with_it() {
    let zone = NameServer::start().await.unwrap();
    let blue = server("blue");
    zone.set("a.test", &["127.0.0.1"], Duration::ZERO);
    let names = names(&zone);
    let origin = light("a.test", blue.address().port(), None, &names);
    assert_eq!(who(&origin).await, "blue");
    drop(zone);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(who(&origin).await, "blue");
    let other = light("b.test", blue.address().port(), None, &names);
    assert_eq!(cause(&other).await.0, Cause::ResolverFailed);
}

#[tokio::test]
async fn many_who_come_at_once_share_one_lookup() {
    let zone = NameServer::start().await.unwrap();
    let blue = server("blue");
    zone.set("a.test", &["127.0.0.1"], Duration::from_secs(60));
    let names = names(&zone);
    let origin = light("a.test", blue.address().port(), None, &names);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let origin = origin.clone();
        all.spawn(async move { who(&origin).await });
    }
    while let Some(one) = all.join_next().await {
        assert_eq!(one.unwrap(), "blue");
    }
    assert_eq!(zone.asked_at_all(), 2, "one for each family");
}

//! Names: moves, dead and lying resolvers, memory over restarts, services.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipreconnect::core::failure::Cause;
use ipreconnect::core::identity::Sighting;
use ipreconnect::core::names::{Knowledge, Strategy};
use ipreconnect::core::origin::Phase;
use ipreconnect::core::policy::AddressPolicy;
use ipreconnect::resolve::{
    DnsServer, DnsSettings, Names, PlainTransport, Question, Record, RecordKind,
};
use ipreconnect::{Link, Origin, OriginSettings, Store, Surroundings};
use ipreconnect_lab::dns::{Kind, Misdeed, NameServer};
use ipreconnect_lab::namespace::{inside, run};
use ipreconnect_lab::origin::{Script, ScriptedOrigin};
use tokio::runtime::Handle;

use crate::scene::{ask, server, until, within};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Resolving by these servers alone.
fn dns(servers: &[&NameServer]) -> DnsSettings {
    let plain = |server: &&NameServer| DnsServer::Plain(server.address(), PlainTransport::Both);
    DnsSettings {
        servers: servers.iter().map(plain).collect(),
        hosts: "/nonexistent".into(),
        ..DnsSettings::default()
    }
}

/// Settings that let names lead to this machine.
fn named(targets: &[String]) -> OriginSettings {
    let targets = targets.iter().map(|target| target.parse().unwrap());
    let mut settings = OriginSettings::new(targets);
    settings.addresses = AddressPolicy::Only(vec!["127.0.0.0/8".parse().unwrap()]);
    settings
}

fn around(dns: DnsSettings) -> Surroundings {
    let runtime = Handle::current();
    Surroundings::with_names(&runtime, Names::start(&runtime, dns, None))
}

fn start(settings: OriginSettings, surroundings: &Surroundings) -> Origin {
    Origin::start("test", settings, surroundings, &Handle::current())
}

/// The same port at another address of loopback.
fn beside(other: &ScriptedOrigin, ip: [u8; 4], name: &str) -> ScriptedOrigin {
    let address = SocketAddr::from((ip, other.address().port()));
    ScriptedOrigin::start_at(address, Script::Answer { name: name.into() }).unwrap()
}

/// A name server, a server, and an origin that leads to it by the name `db.test`.
async fn scene(ttl: Duration) -> (NameServer, ScriptedOrigin, Origin) {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    names.set("db.test", &["127.0.0.1"], ttl);
    let target = format!("db.test:{}", blue.address().port());
    let origin = start(named(&[target]), &around(dns(&[&names])));
    (names, blue, origin)
}

async fn connect(origin: &Origin) -> Link {
    within(10, origin.connect()).await.unwrap()
}

/// Who answers on a new connection.
async fn who(origin: &Origin) -> String {
    ask(&mut connect(origin).await).await.unwrap()
}

async fn up(origin: &Origin) {
    let up = origin.watch(|status| status.is_up());
    within(10, up).await.unwrap();
}

fn cause(origin: &Origin) -> Option<Cause> {
    let names = origin.status().names;
    names.first()?.failure.as_ref().map(|failure| failure.cause)
}

fn knowledge(origin: &Origin) -> Option<Knowledge> {
    Some(origin.status().names.first()?.knowledge)
}

#[tokio::test]
async fn a_name_that_moves_is_followed_and_its_old_streams_stay() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    let green = beside(&blue, [127, 0, 0, 2], "green");
    let port = blue.address().port();
    names.set("db.test", &["127.0.0.1"], SECOND);
    let origin = start(named(&[format!("db.test:{port}")]), &around(dns(&[&names])));
    let mut old = connect(&origin).await;
    assert_eq!(ask(&mut old).await.unwrap(), "blue");

    names.set("db.test", &["127.0.0.2"], SECOND);
    let moved = Instant::now();
    while who(&origin).await == "blue" {
        assert!(moved.elapsed() < 5 * SECOND, "too late");
        tokio::time::sleep(10 * MS).await;
    }
    assert_eq!(ask(&mut old).await.unwrap(), "blue");
    // And back again.
    names.set("db.test", &["127.0.0.1"], SECOND);
    let moved = Instant::now();
    while who(&origin).await == "green" {
        assert!(moved.elapsed() < 5 * SECOND, "too late");
        tokio::time::sleep(10 * MS).await;
    }
    drop(green);
}

#[tokio::test]
async fn a_name_that_moves_to_a_dead_address_costs_nothing() {
    let (names, _blue, origin) = scene(SECOND).await;
    up(&origin).await;
    names.set("db.test", &["127.0.0.9"], SECOND);
    let moved = Instant::now();
    while moved.elapsed() < 3 * SECOND {
        let began = Instant::now();
        assert_eq!(who(&origin).await, "blue");
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
        tokio::time::sleep(10 * MS).await;
    }
    let status = origin.status();
    assert_eq!(status.endpoints.len(), 2, "{status:?}");
}

/// The old address dies with the move, and the time to live is an hour.
#[tokio::test]
async fn a_dead_address_is_looked_up_again_at_once() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    let _green = beside(&blue, [127, 0, 0, 2], "green");
    names.set("db.test", &["127.0.0.1"], 3600 * SECOND);
    let target = format!("db.test:{}", blue.address().port());
    let origin = start(named(&[target]), &around(dns(&[&names])));
    assert_eq!(who(&origin).await, "blue");

    names.set("db.test", &["127.0.0.2"], 3600 * SECOND);
    blue.kill();
    let began = Instant::now();
    assert_eq!(who(&origin).await, "green");
    assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
}

/// However many fail, one name is looked up at a bounded rate, and all share it.
#[tokio::test]
async fn failing_dials_share_their_lookups() {
    let names = NameServer::start().await.unwrap();
    names.set("db.test", &["127.0.0.9"], 3600 * SECOND);
    let surroundings = around(dns(&[&names]));
    let origins: Vec<Origin> = (0..50)
        .map(|_| start(named(&["db.test:9".into()]), &surroundings))
        .collect();
    tokio::time::sleep(2 * SECOND).await;
    let asked = names.asked("db.test", Kind::A);
    assert!((2..=10).contains(&asked), "{asked}");
    drop(origins);
}

#[tokio::test]
async fn a_resolver_that_falls_silent_is_not_missed() {
    let (names, blue, origin) = scene(SECOND).await;
    up(&origin).await;
    names.misbehave(Misdeed::Silent);
    until("the answer is stale", || {
        knowledge(&origin) == Some(Knowledge::Stale)
            && cause(&origin) == Some(Cause::ResolverFailed)
    })
    .await;
    assert_eq!(origin.status().phase, Phase::Up);
    // The origin restarts meanwhile.
    blue.kill();
    let waiting = tokio::spawn({
        let origin = origin.clone();
        async move { who(&origin).await }
    });
    until("the caller waits", || origin.status().waiting == 1).await;
    blue.revive().unwrap();
    assert_eq!(within(5, waiting).await.unwrap(), "blue");
    names.behave();
    until("the resolver is heard again", || {
        knowledge(&origin) == Some(Knowledge::Fresh) && cause(&origin).is_none()
    })
    .await;
}

#[tokio::test]
async fn another_resolver_answers_when_the_first_does_not() {
    for misdeed in [
        Misdeed::Silent,
        Misdeed::Code(2),
        Misdeed::Garbage,
        Misdeed::WrongId,
    ] {
        for strategy in [Strategy::Order, Strategy::Race] {
            let (first, second) = (NameServer::start().await, NameServer::start().await);
            let (first, second) = (first.unwrap(), second.unwrap());
            let blue = server("blue");
            first.misbehave(misdeed.clone());
            second.set("db.test", &["127.0.0.1"], SECOND);
            let settings = DnsSettings {
                strategy,
                ..dns(&[&first, &second])
            };
            let target = format!("db.test:{}", blue.address().port());
            let origin = start(named(&[target]), &around(settings));
            up(&origin).await;
            let server = origin.status().names[0].server.clone().unwrap();
            assert_eq!(&*server, second.address().to_string());
        }
    }
}

/// Where only the first server knows internal names.
#[tokio::test]
async fn a_slow_internal_server_is_not_beaten_by_a_quick_denial() {
    let (internal, public) = (NameServer::start().await, NameServer::start().await);
    let (internal, public) = (internal.unwrap(), public.unwrap());
    let blue = server("blue");
    internal.set("db.test", &["127.0.0.1"], SECOND);
    internal.misbehave(Misdeed::Slow(800 * MS));
    let target = format!("db.test:{}", blue.address().port());
    let origin = start(named(&[target]), &around(dns(&[&internal, &public])));
    assert_eq!(who(&origin).await, "blue");
    assert!(public.asked("db.test", Kind::A) > 0);
}

#[tokio::test]
async fn a_slow_family_does_not_delay_the_other() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    names.set("db.test", &["127.0.0.1"], 60 * SECOND);
    names.misbehave_for(Kind::Aaaa, Misdeed::Silent);
    let target = format!("db.test:{}", blue.address().port());
    let began = Instant::now();
    let origin = start(named(&[target]), &around(dns(&[&names])));
    assert_eq!(who(&origin).await, "blue");
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
}

#[tokio::test]
async fn one_empty_answer_makes_the_origin_suspect_and_serves_on() {
    let (names, _blue, origin) = scene(SECOND).await;
    up(&origin).await;
    names.misbehave(Misdeed::Code(3));
    let suspect = origin.watch(|status| status.phase == Phase::Suspect);
    within(5, suspect).await.unwrap();
    assert_eq!(cause(&origin), Some(Cause::NoSuchName));
    assert_eq!(who(&origin).await, "blue");
    names.behave();
    up(&origin).await;
    // Confirmed, it is believed; streams and a grace for new work stay.
    let mut old = connect(&origin).await;
    names.remove("db.test");
    until("it is believed", || {
        knowledge(&origin) == Some(Knowledge::Gone)
    })
    .await;
    assert_eq!(who(&origin).await, "blue");
    assert_eq!(ask(&mut old).await.unwrap(), "blue");
}

/// Texts in memory, as an embedder may keep them.
#[derive(Debug, Default)]
struct Shelf(Mutex<BTreeMap<String, String>>);

impl Store for Shelf {
    fn load(&self, table: &str, key: &str) -> std::io::Result<Option<String>> {
        let key = format!("{table}/{key}");
        Ok(self.0.lock().unwrap().get(&key).cloned())
    }

    fn save(&self, table: &str, key: &str, text: &str) -> std::io::Result<()> {
        let key = format!("{table}/{key}");
        self.0.lock().unwrap().insert(key, text.to_owned());
        Ok(())
    }

    fn load_sightings(&self, _: &str) -> std::io::Result<Vec<Sighting>> {
        Ok(Vec::new())
    }

    fn save_sightings(&self, _: &str, _: &[Sighting]) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_start_with_dead_resolvers_finds_the_origin_of_the_last_run() {
    let shelf: Arc<Shelf> = Arc::default();
    let blue = server("blue");
    let target = format!("db.test:{}", blue.address().port());
    let names = NameServer::start().await.unwrap();
    names.set("db.test", &["127.0.0.1"], 60 * SECOND);
    let run = |names: &NameServer| {
        let store: Arc<dyn Store> = Arc::<Shelf>::clone(&shelf);
        let runtime = Handle::current();
        let known = Names::start(&runtime, dns(&[names]), Some(store));
        let around = Surroundings::with_names(&runtime, known);
        (start(named(std::slice::from_ref(&target)), &around), around)
    };
    let (origin, around) = run(&names);
    up(&origin).await;
    until("it is kept", || {
        shelf.0.lock().unwrap().contains_key("names/db.test A")
    })
    .await;
    drop((origin, around));

    names.misbehave(Misdeed::Silent);
    let began = Instant::now();
    let (origin, _around) = run(&names);
    assert_eq!(who(&origin).await, "blue");
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    assert_eq!(knowledge(&origin), Some(Knowledge::Remembered));
    // What cannot be understood is left alone.
    for text in shelf.0.lock().unwrap().values_mut() {
        text.insert(3, '\u{0}');
    }
    let (origin, _around) = run(&names);
    until("it is looked for", || cause(&origin).is_some()).await;
    assert_eq!(knowledge(&origin), Some(Knowledge::Unknown));
}

#[tokio::test]
async fn a_service_has_priorities_ports_and_weights() {
    let names = NameServer::start().await.unwrap();
    let servers = [server("a"), server("b"), server("c")];
    let port = |index: usize| servers[index].address().port();
    names.set("h.test", &["127.0.0.1"], 60 * SECOND);
    let service = "_db._tcp.test";
    let (heavy, light) = ((10, 60, port(0), "h.test"), (10, 20, port(1), "h.test"));
    names.set_service(service, &[(20, 0, port(2), "h.test"), heavy, light], SECOND);
    let origin = start(named(&[format!("srv:{service}")]), &around(dns(&[&names])));
    let all = origin.watch(|status| status.endpoints.len() == 3 && status.is_up());
    within(5, all).await.unwrap();
    let priorities: Vec<u32> = origin
        .status()
        .endpoints
        .iter()
        .map(|e| e.priority)
        .collect();
    assert_eq!(priorities, [0, 0, 1]);
    for _ in 0..400 {
        assert_ne!(who(&origin).await, "c");
    }
    let share = servers[0].answered() as f64 / 400.0;
    assert!((0.6..0.9).contains(&share), "{share}");
    servers[0].kill();
    servers[1].kill();
    assert_eq!(who(&origin).await, "c");
    // A service that is told not to exist (RFC 2782).
    names.set_service(service, &[(0, 0, 0, ".")], SECOND);
    until("it is gone", || knowledge(&origin) == Some(Knowledge::Gone)).await;
}

#[tokio::test]
async fn addresses_that_must_not_be_dialled_are_not() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    let port = blue.address().port();
    for (addresses, policy) in [
        (vec!["127.0.0.1"], AddressPolicy::Usual),
        (vec!["169.254.169.254"], AddressPolicy::Usual),
        (
            vec!["::ffff:127.0.0.1", "64:ff9b::7f00:1"],
            AddressPolicy::Usual,
        ),
        (
            vec!["127.0.0.1"],
            AddressPolicy::Only(vec!["203.0.113.0/24".parse().unwrap()]),
        ),
    ] {
        names.set("evil.test", &addresses, SECOND);
        let mut settings = named(&[format!("evil.test:{port}")]);
        settings.addresses = policy;
        let origin = start(settings, &around(dns(&[&names])));
        until("it is refused", || {
            cause(&origin) == Some(Cause::NotAllowed)
        })
        .await;
        let status = origin.status();
        assert!(status.endpoints.is_empty(), "{status:?}");
        assert_eq!(status.names[0].denied.len(), addresses.len());
        assert_eq!(status.phase, Phase::Down);
    }
    // A service's own records choose its hosts, and may not choose this machine.
    names.set_service("_db._tcp.test", &[(0, 0, port, "localhost")], SECOND);
    let mut settings = named(&["srv:_db._tcp.test".into()]);
    settings.addresses = AddressPolicy::Usual;
    let origin = start(settings, &around(dns(&[&names])));
    until("it is refused", || {
        cause(&origin) == Some(Cause::NotAllowed)
    })
    .await;
    assert!(origin.status().endpoints.is_empty());
    assert_eq!(blue.accepted(), 0);
}

/// Whatever a resolver does, nothing breaks, the reason is told, and the name works afterwards.
#[tokio::test]
async fn lies_and_garbage_are_told_and_forgotten() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    names.set("db.test", &["127.0.0.1"], SECOND);
    let surroundings = around(dns(&[&names]));
    let target = format!("db.test:{}", blue.address().port());
    for misdeed in [
        Misdeed::WrongId,
        Misdeed::WrongQuestion,
        Misdeed::AliasLoop,
        Misdeed::AlwaysTruncated,
        Misdeed::PointerLoop,
        Misdeed::Garbage,
        Misdeed::Code(1),
        Misdeed::Code(5),
        Misdeed::Empty,
    ] {
        names.misbehave(misdeed.clone());
        let origin = start(named(std::slice::from_ref(&target)), &surroundings);
        until(&format!("{misdeed:?} is told"), || cause(&origin).is_some()).await;
        let question = Question::new("db.test", RecordKind::A);
        let each = surroundings.names().ask_each(&question).await;
        assert!(each[0].answer.is_err(), "{misdeed:?}");
        names.behave();
        assert_eq!(who(&origin).await, "blue", "{misdeed:?}");
    }
    // Cut off over UDP only is no misdeed at all; neither is a time to live of nothing.
    names.misbehave(Misdeed::Truncated);
    names.set("db.test", &["127.0.0.1"], Duration::ZERO);
    let origin = start(named(std::slice::from_ref(&target)), &surroundings);
    assert_eq!(who(&origin).await, "blue");
    assert_eq!(origin.status().names[0].ttl, SECOND);
    // Ten thousand records do not fit; of what fits no more is kept than anybody needs.
    for many in [3_000, 10_000] {
        names.misbehave(Misdeed::Many(many));
        let mut settings = named(std::slice::from_ref(&target));
        settings.addresses = AddressPolicy::Usual;
        let origin = start(settings, &around(dns(&[&names])));
        until("it is heard", || {
            origin
                .status()
                .names
                .first()
                .is_some_and(|name| name.addresses > 0 || name.failure.is_some())
        })
        .await;
        assert!(origin.status().endpoints.len() <= 64);
    }
}

#[tokio::test]
async fn a_thousand_origins_share_the_lookups_of_ten_names() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    for n in 0..10 {
        names.set(&format!("n{n}.test"), &["127.0.0.1"], 2 * SECOND);
    }
    let surroundings = around(dns(&[&names]));
    let port = blue.address().port();
    let origins: Vec<Origin> = (0..1_000)
        .map(|n| {
            let mut settings = named(&[format!("n{}.test:{port}", n % 10)]);
            settings.supervisor.interval = 60 * SECOND;
            start(settings, &surroundings)
        })
        .collect();
    for origin in &origins {
        up(origin).await;
    }
    let asked = || -> u64 {
        (0..10)
            .map(|n| names.asked(&format!("n{n}.test"), Kind::A))
            .sum()
    };
    // Two times to live, each refreshed a little ahead of its end. Whatever happens on this machine
    // meanwhile can only make them more, so the least of some windows counts.
    let mut least = u64::MAX;
    for _ in 0..3 {
        let before = asked();
        tokio::time::sleep(4 * SECOND).await;
        least = least.min(asked() - before);
    }
    assert!((10..=25).contains(&least), "{least}");
}

#[tokio::test]
async fn the_hosts_file_comes_first_and_localhost_needs_no_server() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    let port = blue.address().port();
    let directory = tempfile::tempdir().unwrap();
    let hosts = directory.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 db.test # a comment\n").unwrap();
    let settings = DnsSettings {
        hosts,
        ..dns(&[&names])
    };
    let surroundings = around(settings);
    for name in ["db.test", "localhost", "db.localhost"] {
        let mut settings = named(&[format!("{name}:{port}")]);
        let networks = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().unwrap());
        settings.addresses = AddressPolicy::Only(networks.to_vec());
        let origin = start(settings, &surroundings);
        assert_eq!(who(&origin).await, "blue", "{name}");
    }
    assert_eq!(names.asked_at_all(), 0);
}

/// The first name's answer comes when another name stands in its place.
#[tokio::test]
async fn an_answer_for_a_name_that_was_replaced_is_ignored() {
    let names = NameServer::start().await.unwrap();
    let blue = server("blue");
    let green = beside(&blue, [127, 0, 0, 2], "green");
    names.set("a.test", &["127.0.0.1"], 60 * SECOND);
    names.set("b.test", &["127.0.0.2"], 60 * SECOND);
    names.misbehave(Misdeed::Slow(500 * MS));
    let target = |name: &str| named(&[format!("{name}:{}", blue.address().port())]);
    let origin = start(target("a.test"), &around(dns(&[&names])));
    until("the first is asked for", || {
        names.asked("a.test", Kind::A) > 0
    })
    .await;
    origin.reconfigure(target("b.test")).await.unwrap();
    assert_eq!(who(&origin).await, "green");
    tokio::time::sleep(SECOND).await;
    let endpoints = origin.status().endpoints;
    assert!(
        endpoints
            .iter()
            .all(|e| e.address == green.address().into()),
        "{endpoints:?}"
    );
    assert_eq!((endpoints.len(), blue.accepted()), (1, 0));
}

#[tokio::test]
async fn other_resolvers_are_taken_while_it_runs() {
    let (first, second) = (NameServer::start().await, NameServer::start().await);
    let (first, second) = (first.unwrap(), second.unwrap());
    let blue = server("blue");
    second.set("db.test", &["127.0.0.1"], SECOND);
    let target = format!("db.test:{}", blue.address().port());
    let surroundings = around(dns(&[&first]));
    let origin = start(named(&[target]), &surroundings);
    until("the first knows nothing", || {
        knowledge(&origin) == Some(Knowledge::Gone)
    })
    .await;
    surroundings.names().reconfigure(dns(&[&second]));
    assert_eq!(who(&origin).await, "blue");
    let each = surroundings.names();
    let answers = each
        .ask_each(&Question::new("db.test", RecordKind::A))
        .await;
    let records = answers[0].answer.as_ref().unwrap().0.clone();
    assert_eq!(records, [Record::Address([127, 0, 0, 1].into())]);
}

/// The system's own resolution, and what it says of a name that nobody has.
#[tokio::test]
async fn the_system_resolves_too() {
    let blue = server("blue");
    let surroundings = around(DnsSettings::default());
    let target = format!("localhost:{}", blue.address().port());
    let origin = start(named(&[target]), &surroundings);
    assert_eq!(who(&origin).await, "blue");
    let origin = start(named(&["nobody.invalid:1".into()]), &surroundings);
    until("it is told", || cause(&origin).is_some()).await;
    assert_eq!(origin.status().phase, Phase::Down);
}

fn in_a_namespace(test: &str, work: impl Future<Output = ()>) {
    if inside(&format!("names::{test}"), &[("nft", &["-v"])]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(work);
    }
}

/// Drops all that is sent to this address and port, until the table is flushed.
fn drop_packets(to: SocketAddr) {
    let (ip, port) = (to.ip().to_string(), to.port().to_string());
    run("nft", &["add", "table", "inet", "t"]);
    let chain = "{ type filter hook output priority 0; }";
    run("nft", &["add", "chain", "inet", "t", "c", chain]);
    for protocol in ["tcp", "udp"] {
        let rule = ["add", "rule", "inet", "t", "c", "ip", "daddr", &ip];
        let of = [protocol, "dport", &port, "drop"];
        run("nft", &[&rule[..], &of].concat());
    }
}

/// The name moves while the path to the old address is silent: no refusal tells.
#[test]
fn a_silent_address_is_looked_up_again_too() {
    in_a_namespace("a_silent_address_is_looked_up_again_too", async {
        let (names, blue, origin) = scene(3600 * SECOND).await;
        let _green = beside(&blue, [127, 0, 0, 2], "green");
        assert_eq!(who(&origin).await, "blue");
        names.set("db.test", &["127.0.0.2"], 3600 * SECOND);
        drop_packets(blue.address());
        let began = Instant::now();
        assert_eq!(who(&origin).await, "green");
        // Far below the connect timeout of two seconds.
        assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    });
}

/// Nothing is told when a way breaks and mends: the sockets to the resolver must not stay wedged.
#[test]
fn a_resolver_is_heard_again_after_a_silent_break() {
    in_a_namespace("a_resolver_is_heard_again_after_a_silent_break", async {
        let names = NameServer::start().await.unwrap();
        let blue = server("blue");
        names.set("db.test", &["127.0.0.1"], SECOND);
        for transport in [PlainTransport::Both, PlainTransport::Tcp] {
            let settings = DnsSettings {
                servers: vec![DnsServer::Plain(names.address(), transport)],
                ..dns(&[])
            };
            let target = format!("db.test:{}", blue.address().port());
            let origin = start(named(&[target]), &around(settings));
            up(&origin).await;
            drop_packets(names.address());
            until("it is stale", || {
                knowledge(&origin) == Some(Knowledge::Stale)
            })
            .await;
            assert_eq!(who(&origin).await, "blue");
            run("nft", &["flush", "ruleset"]);
            until("it is fresh", || {
                knowledge(&origin) == Some(Knowledge::Fresh)
            })
            .await;
        }
    });
}

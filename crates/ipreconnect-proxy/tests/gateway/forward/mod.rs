//! Clients that say where they want to go.

mod bad;
mod chains;
mod datagrams;
mod loops;
mod pass;
mod people;
mod redirected;
mod rules;
mod socks;
mod two;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipreconnect::OriginSettings;
use ipreconnect::core::forward::{Allowance, ForwardPolicy, Private};
use ipreconnect::resolve::{DnsServer, DnsSettings, Names, PlainTransport};
use ipreconnect::tls::TlsSettings;
use ipreconnect_lab::dns::NameServer;
use ipreconnect_proxy::{
    AccessFormat, AccessLog, AccessSink, FieldRules, ForwardPlan, Headers, HttpPlan, Plane,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;

use crate::http::{Client, plan};
use crate::scene::{Scene, settings, until};

/// Lines of the access log.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl AccessSink for Lines {
    fn take(&self, mut lines: Vec<u8>) -> Vec<u8> {
        self.0.lock().unwrap().append(&mut lines);
        lines
    }
}

/// A forward proxy, its names, and what it writes.
struct Stage {
    scene: Scene,
    zone: NameServer,
    names: Names,
    lines: Lines,
}

/// A policy that lets clients go to this machine.
fn open() -> ForwardPolicy {
    ForwardPolicy {
        private: Private::Only(["127.0.0.0/8".parse().unwrap()].into_iter().collect()),
        ..ForwardPolicy::default()
    }
}

impl Stage {
    async fn new(policy: ForwardPolicy) -> Self {
        Self::with(policy, |_| {}).await
    }

    async fn with(policy: ForwardPolicy, change: impl FnOnce(&mut ForwardPlan)) -> Self {
        Self::within(20_000, policy, change).await
    }

    /// The same within so many descriptors.
    async fn within(
        files: usize,
        policy: ForwardPolicy,
        change: impl FnOnce(&mut ForwardPlan),
    ) -> Self {
        let zone = NameServer::start().await.unwrap();
        let dns = DnsSettings {
            servers: vec![DnsServer::Plain(zone.address(), PlainTransport::Both)],
            hosts: "/nonexistent".into(),
            ..DnsSettings::default()
        };
        let names = Names::start(&Handle::current(), dns, None);
        let mut forward = plan_of(policy, &names);
        change(&mut forward);
        let scene = Scene::speaking_within(files, settings(&[]), plane(forward));
        let lines = Lines::default();
        let sink = Arc::new(lines.clone());
        let format = AccessFormat::Json;
        scene.gateway.log(Some(&AccessLog { sink, format }));
        Self {
            scene,
            zone,
            names,
            lines,
        }
    }

    async fn client(&self) -> Client {
        Client::new(&self.scene).await
    }

    /// A name that leads there.
    fn name(&self, name: &str, ip: &str) {
        self.zone.set(name, &[ip], Duration::from_secs(60));
    }

    /// The lines with this in them, once there are so many.
    async fn lines(&self, what: &str, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        until("the lines are written", || {
            let all = String::from_utf8(self.lines.0.lock().unwrap().clone()).unwrap();
            found = all
                .lines()
                .filter(|line| line.contains(what))
                .map(str::to_owned)
                .collect();
            found.len() >= count
        })
        .await;
        found
    }

    async fn line(&self, what: &str) -> String {
        self.lines(what, 1).await.remove(0)
    }
}

fn plan_of(policy: ForwardPolicy, names: &Names) -> ForwardPlan {
    ForwardPlan {
        policy: Arc::new(policy),
        is_enforced: true,
        is_transparent: false,
        headers: Headers::Hide,
        request: FieldRules::default(),
        response: FieldRules::default(),
        cache: None,
        allowance: Allowance::default(),
        via: Vec::new(),
        pac: None,
        names: names.clone(),
        dialling: OriginSettings::new([]),
        tls: TlsSettings::default(),
    }
}

fn http_plan(forward: ForwardPlan) -> HttpPlan {
    HttpPlan {
        forward: Some(forward),
        settings: None,
        ..plan()
    }
}

fn plane(forward: ForwardPlan) -> Plane {
    Plane::Http(Box::new(http_plan(forward)))
}

/// What echoes what it is told, and its end.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    address
}

/// Whether what is said comes back, and an end as an end.
async fn echoes(stream: &mut TcpStream) {
    for piece in [&b"ping"[..], &[7; 100_000]] {
        let mut back = vec![0; piece.len()];
        let (mut read, mut write) = stream.split();
        let (said, heard) = tokio::join!(write.write_all(piece), read.read_exact(&mut back));
        said.unwrap();
        heard.unwrap();
        assert!(back == piece);
    }
    stream.shutdown().await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
}

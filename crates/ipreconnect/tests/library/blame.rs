//! Whose fault it is when origins fail: theirs, or this machine's own network.

use std::net::SocketAddr;
use std::time::Duration;

use ipreconnect::core::locality::Blame;
use ipreconnect::core::origin::Phase;
use ipreconnect::{Origin, Surroundings};
use ipreconnect_lab::namespace::{inside, run};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// A server that is beyond this machine, as far as its address tells.
struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    async fn at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        Self { address, task }
    }

    async fn new() -> Self {
        Self::at("10.77.0.1:0".parse().unwrap()).await
    }

    async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

fn origin(name: &str, around: &Surroundings, servers: &[&Server]) -> Origin {
    let builder = Origin::builder(name).surroundings(around);
    let addresses = servers.iter().map(|server| server.address.to_string());
    addresses
        .fold(builder, |builder, address| builder.address(address))
        .start()
        .unwrap()
}

/// Waits for a phase, and asks until it has come: nobody looks at what rests but now and then.
async fn reaches(origin: &Origin, phase: Phase) {
    let asked = async {
        while origin.status().phase != phase {
            let _ = origin.reconnect().await;
            let _ = tokio::time::timeout(Duration::from_millis(50), origin.connect()).await;
        }
    };
    let within = tokio::time::timeout(Duration::from_secs(30), asked).await;
    assert!(
        within.is_ok(),
        "{} is {}",
        origin.name(),
        origin.status().phase
    );
}

/// Plays a test where 10.77.0.1 is, which is beyond this machine as far as its number tells.
fn beyond_this_machine(test: &str, scene: impl Future<Output = ()>) {
    if !inside(&format!("blame::{test}"), &[]) {
        return;
    }
    run("ip", &["address", "add", "10.77.0.1/32", "dev", "lo"]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(scene);
}

#[test]
fn others_that_were_never_lost_speak_for_the_network() {
    beyond_this_machine("others_that_were_never_lost_speak_for_the_network", async {
        let around = Surroundings::watch(&Handle::current());
        let [one, other, last, backup] = [
            Server::new().await,
            Server::new().await,
            Server::new().await,
            Server::new().await,
        ];
        let first = origin("first", &around, &[&one]);
        let second = origin("second", &around, &[&other]);
        let third = origin("third", &around, &[&last, &backup]);
        for origin in [&first, &second, &third] {
            reaches(origin, Phase::Up).await;
        }
        // Two are lost, and the third one was up all the time.
        one.kill().await;
        other.kill().await;
        reaches(&first, Phase::Down).await;
        reaches(&second, Phase::Down).await;
        assert_eq!(around.blame(), Blame::Origin);
        // One of its servers is lost: the other one still proves the network.
        last.kill().await;
        reaches(&third, Phase::Up).await;
        assert_eq!(around.blame(), Blame::Origin);
        let address = backup.kill().await;
        reaches(&third, Phase::Down).await;
        // By now the first two may have been lost too long ago to be of the same cause.
        let back = Server::at(address).await;
        reaches(&third, Phase::Up).await;
        assert_eq!(around.blame(), Blame::Origin);
        drop(back);
    });
}

#[test]
fn all_that_fail_at_once_and_have_no_other_server_blame_the_network() {
    beyond_this_machine(
        "all_that_fail_at_once_and_have_no_other_server_blame_the_network",
        async {
            let around = Surroundings::watch(&Handle::current());
            let (one, other) = (Server::new().await, Server::new().await);
            let first = origin("first", &around, &[&one]);
            let second = origin("second", &around, &[&other]);
            reaches(&first, Phase::Up).await;
            reaches(&second, Phase::Up).await;
            let address = one.kill().await;
            other.kill().await;
            reaches(&first, Phase::Down).await;
            reaches(&second, Phase::Down).await;
            assert_eq!(around.blame(), Blame::OwnNetwork);
            let _back = Server::at(address).await;
            reaches(&first, Phase::Up).await;
            assert_eq!(around.blame(), Blame::Origin);
        },
    );
}

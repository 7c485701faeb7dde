//! The clients of these measurements.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Task;
use crate::bench::papers::HOST;

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes every certificate: the time of clients is not what is measured.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What clients of a task speak.
pub(super) fn config(task: Task) -> io::Result<Arc<ClientConfig>> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    if task != Task::FullHybrid {
        provider.kx_groups = vec![kx_group::X25519];
    }
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(provider)))
        .with_no_client_auth();
    config.resumption = match task {
        Task::Resumed => Resumption::in_memory_sessions(64),
        _ => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

/// A connection inside TLS that has asked for something.
pub(super) async fn dial(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    wish: u8,
) -> io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(target).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(HOST).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::clone(config));
    let mut stream = connector.connect(name, stream).await?;
    stream.write_all(&[wish]).await?;
    Ok(stream)
}

/// One whole connection: a question, and the answer to its end.
pub(super) async fn visit(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    wish: u8,
) -> io::Result<()> {
    let visited = async {
        let mut stream = dial(config, target, wish).await?;
        let mut answer = Vec::with_capacity(64);
        stream.read_to_end(&mut answer).await?;
        match answer.ends_with(b"\n") {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    };
    timeout(PATIENCE, visited)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Clients that visit again and again; returns visits and failures.
pub(super) async fn visitors(
    config: &Arc<ClientConfig>,
    target: SocketAddr,
    wish: u8,
    count: usize,
    lasting: Duration,
) -> (u64, u64) {
    let end = Instant::now() + lasting;
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let config = Arc::clone(config);
        clients.spawn(async move {
            let (mut served, mut failed) = (0, 0);
            while Instant::now() < end {
                match visit(&config, target, wish).await {
                    Ok(()) => served += 1,
                    Err(_) => failed += 1,
                }
            }
            (served, failed)
        });
    }
    let mut sum = (0, 0);
    while let Some(Ok((served, failed))) = clients.join_next().await {
        sum = (sum.0 + served, sum.1 + failed);
    }
    sum
}

/// Receives for so long; returns how much it was.
pub(super) async fn discard(
    stream: &mut TlsStream<TcpStream>,
    lasting: Duration,
) -> io::Result<u64> {
    let end = Instant::now() + lasting;
    let mut buffer = vec![0u8; 256 * 1024];
    let mut total = 0;
    while Instant::now() < end {
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => total += count as u64,
        }
    }
    Ok(total)
}

/// One question over a plain connection; the time to the first byte of its answer.
pub(super) async fn first_byte(target: SocketAddr) -> io::Result<Duration> {
    let began = Instant::now();
    let asked = async {
        let mut stream = TcpStream::connect(target).await?;
        stream.set_nodelay(true)?;
        stream.write_all(b"look\n").await?;
        stream.read_u8().await?;
        Ok(began.elapsed())
    };
    timeout(PATIENCE, asked)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

//! A server of gRPC, on a thread of its own, whose messages are bytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use bytes::{Buf, BufMut, Bytes};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{BoxFuture, BoxStream, Context, Poll, Service, http};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

/// The longest message.
pub(super) const LONGEST: usize = 8 * 1024 * 1024;

/// Messages as they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Messages of calls that have one.
    pub(super) calls: Arc<Mutex<Vec<Bytes>>>,
    /// Calls under way.
    pub(super) open: Arc<AtomicUsize>,
}

/// One call under way, until dropped.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(seen: &Seen) -> Self {
        seen.open.fetch_add(1, SeqCst);
        Self(Arc::clone(&seen.open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// The server; killed when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) seen: Seen,
    stop: Option<oneshot::Sender<()>>,
    kill: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen::default();
        let service = Talk(seen.clone());
        let ((stop, stopped), (kill, killed)) = (oneshot::channel(), oneshot::channel());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let serving = tonic::transport::Server::builder().serve_with_incoming_shutdown(
                    service,
                    TcpIncoming::from(listener),
                    async {
                        // Whoever drops it does not stop the server.
                        if stopped.await.is_err() {
                            std::future::pending::<()>().await;
                        }
                    },
                );
                tokio::select! {
                    served = serving => served.unwrap(),
                    _ = killed => {}
                }
            });
        });
        Self {
            address,
            seen,
            stop: Some(stop),
            kill: Some(kill),
            thread: Some(thread),
        }
    }

    /// Takes no more calls, and ends when those under way have ended.
    pub(super) fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub(super) fn kill(&mut self) {
        drop(self.kill.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The service.
#[derive(Clone)]
struct Talk(Seen);

impl Service<http::Request<Body>> for Talk {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let seen = self.0.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Raw)
                .max_decoding_message_size(LONGEST)
                .max_encoding_message_size(LONGEST);
            Ok(match request.uri().path() {
                "/talk/Once" => grpc.unary(Once(seen), request).await,
                "/talk/Many" => grpc.server_streaming(Many, request).await,
                "/talk/Sum" => grpc.client_streaming(Sum(seen), request).await,
                "/talk/Both" => grpc.streaming(Both(seen), request).await,
                _ => Status::unimplemented("there is no such thing").into_http(),
            })
        })
    }
}

macro_rules! method {
    ($name:ident, $request:ty => $response:ty, $carry_out:path) => {
        impl Service<Request<$request>> for $name {
            type Response = Response<$response>;
            type Error = Status;
            type Future = BoxFuture<Self::Response, Status>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<$request>) -> Self::Future {
                Box::pin($carry_out(self.clone(), request))
            }
        }
    };
}

/// Answers with what it is told; `fail` and `wait` are orders.
#[derive(Clone)]
struct Once(Seen);

method!(Once, Bytes => Bytes, once);

async fn once(Once(seen): Once, request: Request<Bytes>) -> Result<Response<Bytes>, Status> {
    let _open = Open::new(&seen);
    let (metadata, _, message) = request.into_parts();
    seen.calls.lock().unwrap().push(message.clone());
    match message.as_ref() {
        b"fail" => {
            let mut told = MetadataMap::new();
            told.insert_bin("why-bin", MetadataValue::from_bytes(&[0, 255, 7]));
            Err(Status::with_details_and_metadata(
                Code::FailedPrecondition,
                "100 % wrong: \u{e4}\n",
                Bytes::from_static(b"details"),
                told,
            ))
        }
        b"wait" => std::future::pending().await,
        _ => {
            let mut response = Response::new(message);
            *response.metadata_mut() = metadata;
            Ok(response)
        }
    }
}

/// Answers a number with so many messages.
#[derive(Clone)]
struct Many;

method!(Many, Bytes => BoxStream<Bytes>, many);

async fn many(_: Many, request: Request<Bytes>) -> Result<Response<BoxStream<Bytes>>, Status> {
    let count: u32 = std::str::from_utf8(request.get_ref())
        .unwrap()
        .parse()
        .unwrap();
    let messages = stream::iter((0..count).map(|number| Ok(number.to_string().into())));
    Ok(Response::new(Box::pin(messages)))
}

/// Answers with the length of all; fails at `fail`, without reading on.
#[derive(Clone)]
struct Sum(Seen);

method!(Sum, Streaming<Bytes> => Bytes, sum);

async fn sum(
    Sum(seen): Sum,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<Bytes>, Status> {
    let _open = Open::new(&seen);
    let mut messages = request.into_inner();
    let mut length = 0;
    while let Some(message) = messages.message().await? {
        if message == "fail" {
            return Err(Status::resource_exhausted("no more"));
        }
        length += message.len();
    }
    Ok(Response::new(length.to_string().into()))
}

/// Answers each message with itself.
#[derive(Clone)]
struct Both(Seen);

method!(Both, Streaming<Bytes> => BoxStream<Bytes>, both);

async fn both(
    Both(seen): Both,
    request: Request<Streaming<Bytes>>,
) -> Result<Response<BoxStream<Bytes>>, Status> {
    let open = Open::new(&seen);
    Ok(Response::new(Box::pin(kept(request.into_inner(), open))))
}

/// A stream that is under way for as long as it lives.
fn kept(messages: Streaming<Bytes>, open: Open) -> impl Stream<Item = Result<Bytes, Status>> {
    messages.map(move |message| {
        let _ = &open;
        message
    })
}

//! What a request allocates once everything is warm: nothing that could be used again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use ipreconnect::{Origin, OriginSettings, Surroundings, Target};
use ipreconnect_proxy::{
    Door, Forwarding, Gateway, GatewaySettings, HalfClose, HttpLimits, HttpPlan, HttpSettings,
    ListenAddress, ListenerSettings, Plane, Timeouts,
};

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the promises that this call needs.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises that this call needs.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Relaxed);
        // SAFETY: the caller keeps the promises that this call needs.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Answers whatever comes in one piece, without an allocation.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut request = [0; 4096];
                while stream.read(&mut request).is_ok_and(|count| count > 0) {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
                    if stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn ask(stream: &mut TcpStream, count: u32) {
    let mut answer = [0; 4096];
    for _ in 0..count {
        let request =
            b"GET /some/path HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nCookie: a=b\r\n\r\n";
        stream.write_all(request).unwrap();
        let read = stream.read(&mut answer).unwrap();
        assert!(answer[..read].ends_with(b"hello"));
    }
}

#[test]
fn a_request_allocates_nothing_that_could_be_used_again() {
    const REQUESTS: u32 = 2000;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let surroundings = Surroundings::watch(runtime.handle());
    let settings = OriginSettings::new([Target::from(origin())]);
    let origin = Origin::start("test", settings, &surroundings, runtime.handle());
    let gateway = GatewaySettings {
        workers: 1,
        files: 1000,
    };
    let mut gateway = Gateway::start(gateway).unwrap();
    let listener = ListenerSettings {
        timeouts: Timeouts {
            idle: Duration::from_secs(60),
            stall: Duration::from_secs(30),
        },
        half_close: HalfClose::Leaves,
    };
    let plan = HttpPlan {
        pages: None,
        shield: None,
        forward: None,
        routes: Vec::new(),
        settings: Some(HttpSettings::default()),
        limits: HttpLimits::default(),
        compresses: false,
        forwarding: Forwarding::default(),
        error_page: None,
    };
    let free = ListenAddress::Tcp(([127, 0, 0, 1], 0).into());
    let plane = Plane::Http(Box::new(plan));
    let bound = gateway
        .listen(
            "test",
            &[free],
            origin.clone(),
            listener,
            Door::default(),
            plane,
        )
        .unwrap();
    let mut stream = TcpStream::connect(bound[0].ip().unwrap()).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    ask(&mut stream, REQUESTS);
    let before = COUNT.load(Relaxed);
    ask(&mut stream, REQUESTS);
    let allocated = COUNT.load(Relaxed) - before;
    // The watch and the driver look at the origin from time to time, whatever the number of requests.
    assert!(
        allocated < u64::from(REQUESTS) / 2,
        "{allocated} for {REQUESTS} requests"
    );
}

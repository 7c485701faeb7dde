//! A name costs nothing on the data path: what is allocated for a connection is the same with and
//! without one, and looking at what is known allocates nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use ipreconnect::core::policy::AddressPolicy;
use ipreconnect::resolve::{DnsServer, DnsSettings, Names, PlainTransport};
use ipreconnect::{Origin, OriginSettings, Surroundings};
use ipreconnect_lab::dns::NameServer;
use ipreconnect_lab::origin::{Script, ScriptedOrigin};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator as it is; the counter allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is about to end counts no more.
        let _ = COUNT.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn counted<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = COUNT.with(Cell::get);
    let done = work();
    (done, COUNT.with(Cell::get) - before)
}

#[test]
fn a_name_allocates_nothing_on_the_data_path() {
    // The drivers and the resolver run on a thread of their own, as in the gateway.
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (server, names) = control.block_on(async {
        let server = ScriptedOrigin::start(Script::Silent).unwrap();
        (server, NameServer::start().await.unwrap())
    });
    names.set("db.test", &["127.0.0.1"], Duration::from_secs(60));
    let dns = DnsSettings {
        servers: vec![DnsServer::Plain(names.address(), PlainTransport::Both)],
        hosts: "/nonexistent".into(),
        ..DnsSettings::default()
    };
    let surroundings =
        Surroundings::with_names(control.handle(), Names::start(control.handle(), dns, None));
    let start = |target: String| {
        let mut settings = OriginSettings::new([target.parse().unwrap()]);
        settings.addresses = AddressPolicy::Only(vec!["127.0.0.0/8".parse().unwrap()]);
        let origin = Origin::start("test", settings, &surroundings, control.handle());
        control
            .block_on(origin.watch(|status| status.is_up()))
            .unwrap();
        origin
    };
    let port = server.address().port();
    let (fixed, named) = (
        start(format!("127.0.0.1:{port}")),
        start(format!("db.test:{port}")),
    );

    let ((), looking) = counted(|| {
        for _ in 0..1_000 {
            assert!(named.snapshot().view().leader().is_some());
        }
    });
    assert_eq!(looking, 0);

    let worker = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let least = |origin: &Origin| {
        let connects = (0..200).map(|_| {
            let (link, count) = counted(|| worker.block_on(origin.connect()));
            drop(link.unwrap());
            count
        });
        connects.min().unwrap()
    };
    let asked = names.asked_at_all();
    let (fixed, named) = (least(&fixed), least(&named));
    assert_eq!(named, fixed);
    assert_eq!(names.asked_at_all(), asked);
}

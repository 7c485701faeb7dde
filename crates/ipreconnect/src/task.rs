//! The only spawn: tasks with a name, which end with their owner.

use std::future::Future;

use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinHandle};

/// A task that is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Task {
    handle: JoinHandle<()>,
}

impl Task {
    /// Runs `future` on `runtime`; `name` is told if it ever panics.
    pub(crate) fn spawn(
        runtime: &Handle,
        name: &'static str,
        future: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        let handle = runtime.spawn(async move {
            let outcome = Alarm(name);
            future.await;
            std::mem::forget(outcome);
        });
        Self { handle }
    }

    pub(crate) fn abort_handle(&self) -> AbortHandle {
        self.handle.abort_handle()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

struct Alarm(&'static str);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                task = self.0,
                "a task of ipreconnect panicked; please report it"
            );
        }
    }
}

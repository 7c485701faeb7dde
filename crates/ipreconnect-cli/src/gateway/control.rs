//! Threads that run what is not carried: one for every origin's driver, one for the names.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// A thread with a runtime of its own.
pub(super) struct Control {
    handle: Handle,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Control {
    pub(super) fn start(name: &str) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    // Its end is the end of the sender, in whatever way.
                    let _ = ended.await;
                });
                // Lookups that are stuck in the system's resolver are not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            end,
            thread,
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn end(self) {
        drop(self.end);
        if self.thread.join().is_err() {
            tracing::error!("a control thread panicked; please report it");
        }
    }
}

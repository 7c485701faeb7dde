//! One connection, as a script sees it: it stands still while the origin is frozen.

use super::stage::{Cue, Stage, Wire};
use std::io;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

/// The longest line.
const LONGEST_LINE: usize = 64 * 1024;
/// The most read at once.
const PIECE: usize = 16 * 1024;

pub(super) struct Desk {
    wire: Box<dyn Wire>,
    cues: watch::Receiver<Cue>,
    stage: Arc<Stage>,
    /// Read, but not asked for yet.
    unread: Vec<u8>,
}

impl Desk {
    pub(super) fn new(wire: Box<dyn Wire>, stage: Arc<Stage>) -> Self {
        Self {
            wire,
            cues: stage.cues(),
            stage,
            unread: Vec::new(),
        }
    }

    /// Makes the closing a reset.
    pub(super) fn reset(&self) {
        self.wire.reset();
    }

    /// The next line, without its end; none at end of file, even if a line has begun.
    pub(super) async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let end = self.unread[searched..]
                .iter()
                .position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let mut line: Vec<u8> = self.unread.drain(..=searched + end).collect();
                line.pop();
                return Ok(Some(line));
            }
            searched = self.unread.len();
            if searched > LONGEST_LINE {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if self.fill().await? == 0 {
                return Ok(None);
            }
        }
    }

    /// So many bytes, or fewer at end of file; the longest line's length at most.
    pub(super) async fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if count > LONGEST_LINE {
            return Err(io::ErrorKind::InvalidData.into());
        }
        while self.unread.len() < count && self.fill().await? > 0 {}
        let count = count.min(self.unread.len());
        Ok(self.unread.drain(..count).collect())
    }

    /// What comes next, whatever it is; nothing at end of file.
    pub(super) async fn some(&mut self) -> io::Result<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill().await?;
        }
        Ok(std::mem::take(&mut self.unread))
    }

    /// Reads until end of file, and says how many bytes there were.
    pub(super) async fn drain(&mut self) -> io::Result<u64> {
        let mut drained = 0;
        loop {
            match self.some().await?.len() {
                0 => return Ok(drained),
                bytes => drained += bytes as u64,
            }
        }
    }

    /// Sends an answer, late if the origin is slow, and counts it.
    pub(super) async fn answer(&mut self, bytes: &[u8]) -> io::Result<()> {
        let delay = self.cues.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.send(bytes).await?;
        self.stage.count_answer();
        Ok(())
    }

    /// Sends something that is no answer.
    pub(super) async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            self.thawed().await;
            tokio::select! {
                biased;
                () = changed(&mut self.cues) => {}
                written = self.wire.write(bytes) => bytes = &bytes[written?..],
            }
        }
        Ok(())
    }

    /// Ends the origin's way of the connection.
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.thawed().await;
        self.wire.shutdown().await
    }

    /// Waits for a release; false if the client left before.
    pub(super) async fn released(&mut self) -> io::Result<bool> {
        let _waiting = self.stage.waiter();
        let before = self.cues.borrow().releases;
        loop {
            let cue = *self.cues.borrow_and_update();
            if cue.releases != before && !cue.frozen {
                return Ok(true);
            }
            let reads = !cue.frozen && self.unread.len() <= LONGEST_LINE;
            let mut piece = vec![0; PIECE];
            tokio::select! {
                biased;
                () = changed(&mut self.cues) => {}
                read = self.wire.read(&mut piece), if reads => match read? {
                    0 => return Ok(false),
                    read => self.unread.extend_from_slice(&piece[..read]),
                },
            }
        }
    }

    /// Reads something more, and says how much; 0 at end of file.
    async fn fill(&mut self) -> io::Result<usize> {
        let mut piece = vec![0; PIECE];
        loop {
            self.thawed().await;
            tokio::select! {
                biased;
                () = changed(&mut self.cues) => {}
                read = self.wire.read(&mut piece) => {
                    let read = read?;
                    self.unread.extend_from_slice(&piece[..read]);
                    return Ok(read);
                }
            }
        }
    }

    async fn thawed(&mut self) {
        // The stage outlives its desks, so this only ever reports a thaw.
        let _ = self.cues.wait_for(|cue| !cue.frozen).await;
    }
}

async fn changed(cues: &mut watch::Receiver<Cue>) {
    // The stage outlives its desks, so this only ever reports a change.
    let _ = cues.changed().await;
}

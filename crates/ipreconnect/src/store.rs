//! What is kept between two runs, wherever that may be.

use std::fmt;
use std::io;

use ipreconnect_core::identity::Sighting;

/// A small store of texts by table and key, and of identities. The library has none of its own: files, or a database, are
/// the embedder's.
///
/// It is called from threads that may block, one call at a time for each key.
pub trait Store: Send + Sync + fmt::Debug {
    /// What was kept last; `None` if nothing was.
    ///
    /// # Errors
    /// Whatever is in the way; the library goes on without.
    fn load(&self, table: &str, key: &str) -> io::Result<Option<String>>;

    /// Keeps a text in place of the one before, all of it or nothing.
    ///
    /// # Errors
    /// Whatever is in the way; the library goes on, and tries again later.
    fn save(&self, table: &str, key: &str, text: &str) -> io::Result<()>;

    /// What was kept of the identity of an origin's servers; nothing, if nothing was.
    ///
    /// # Errors
    /// Whatever is in the way; an origin that refuses changed keys refuses all while this fails.
    fn load_sightings(&self, origin: &str) -> io::Result<Vec<Sighting>>;

    /// Keeps the identity of an origin's servers in place of what was kept before, all of it or
    /// nothing.
    ///
    /// # Errors
    /// Whatever is in the way; the library goes on, and tries again later.
    fn save_sightings(&self, origin: &str, sightings: &[Sighting]) -> io::Result<()>;
}

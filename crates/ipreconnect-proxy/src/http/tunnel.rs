//! What goes on as something else than HTTP: WebSockets, and whatever else both sides agree upon.

use std::sync::Arc;

use super::client::Client;
use super::guest::Guest;
use super::line::Upstream;
use crate::l4;

/// A connection to an origin that switched protocols.
pub(super) struct Tunnel {
    pub(super) upstream: Upstream,
}

impl Tunnel {
    /// Carries bytes both ways from now on, in a task of its own.
    pub(super) fn carry(self, mut client: Client, guest: Guest) {
        let early_up = client.input.split_off(client.at.min(client.input.len()));
        let (socket, client_tls, unsent) = client.wire.take_parts();
        drop(client);
        let (Some(client), Some(origin)) = (Arc::into_inner(socket), self.upstream.into_parts())
        else {
            return;
        };
        let mut early_down = unsent;
        early_down.extend_from_slice(&origin.input);
        l4::carry(
            l4::Carried {
                client,
                client_tls,
                origin: origin.socket,
                origin_tls: origin.tls,
                endpoint: origin.endpoint,
                is_tcp: origin.is_tcp,
                usage: origin.usage,
                early_up,
                early_down,
            },
            guest.into_session(),
        );
    }
}

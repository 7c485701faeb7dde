//! What a forward proxy lets its clients do.

use ipreconnect::core::forward::{Places, Private};
use ipreconnect_proxy::Headers;
use serde::Serialize;

use crate::config::plan::ForwardListen;

#[derive(Clone, Debug, Serialize)]
pub(super) struct ShownForward {
    /// How many names and networks clients may go to; everything, if it is not said.
    allowed: Option<usize>,
    /// Those that they may not.
    blocked: usize,
    /// Lines of lists that were not understood.
    skipped: u64,
    /// All, without any.
    ports: Vec<String>,
    private: &'static str,
    enforced: bool,
    headers: &'static str,
}

impl ShownForward {
    /// For people.
    pub(super) fn text(&self) -> String {
        let many = |count: usize| match count {
            1 => "1 entry".to_owned(),
            count => format!("{count} entries"),
        };
        let mut text = String::from("  a forward proxy, to ");
        match self.allowed {
            None => text.push_str("everything"),
            Some(0) => text.push_str("nothing: the list of what is allowed is empty"),
            Some(count) => text.push_str(&format!("what {} allow", many(count))),
        }
        if self.blocked > 0 {
            text.push_str(&format!(" but what {} block", many(self.blocked)));
        }
        let ports = match self.ports.as_slice() {
            [] => "all ports".to_owned(),
            [one] => format!("port {one}"),
            several => format!("ports {}", several.join(", ")),
        };
        text.push_str(&format!("; {ports}; {}\n", self.private));
        if self.skipped > 0 {
            text.push_str(&format!(
                "  {} lines of its lists are about more than hosts, and say nothing here\n",
                self.skipped
            ));
        }
        if !self.enforced {
            text.push_str("  its rules are not enforced: what they would deny is told\n");
        }
        text.push_str(&format!("  {}\n", self.headers));
        text
    }
}

pub(super) fn show(forward: &ForwardListen) -> ShownForward {
    let policy = &forward.policy;
    let ports = policy
        .ports
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
    ShownForward {
        allowed: policy.allow.as_ref().map(Places::len),
        blocked: policy.block.len(),
        skipped: policy.allow.as_ref().map_or(0, Places::skipped) + policy.block.skipped(),
        ports: ports.collect(),
        private: match &policy.private {
            Private::Deny => "no addresses of private networks",
            Private::Allow => "private networks, too",
            Private::Only(_) => "some private networks, too",
        },
        enforced: forward.is_enforced,
        headers: match forward.headers {
            Headers::Hide => "origins are told nothing of clients",
            Headers::Tell => "origins are told whose requests they are",
            Headers::Untouched => "origins are told what clients say",
        },
    }
}

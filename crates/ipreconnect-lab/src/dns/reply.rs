//! How a scripted name server answers.

use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Carrier, Desk, Entry, Kind, Misdeed};

/// The longest answer over UDP; more is cut off.
const LONGEST: usize = 1232;

impl Desk {
    /// The bytes of the answer, and after how long they go out.
    pub(super) fn answer(
        &mut self,
        question: &Message,
        carrier: Carrier,
    ) -> Option<(Vec<u8>, Duration)> {
        let query = question.queries.first()?.clone();
        let kind = kind_of(query.query_type());
        let name = plain(query.name());
        *self.asked.entry((name.clone(), kind)).or_default() += 1;
        let misdeeds = self.misdeeds.iter().rev();
        let misdeed = misdeeds
            .filter(|(only, _)| only.is_none_or(|only| only == kind))
            .map(|(_, misdeed)| misdeed.clone())
            .next();
        let mut answer = blank(question, &query);
        let mut delay = Duration::ZERO;
        match misdeed {
            Some(Misdeed::Silent) => return None,
            Some(Misdeed::Slow(by)) => {
                delay = by;
                self.fill(&mut answer, &query, &name, kind);
            }
            Some(Misdeed::Code(code)) => {
                answer.metadata.response_code = ResponseCode::from(0, code);
            }
            Some(Misdeed::Empty) => {}
            Some(Misdeed::Truncated) if carrier == Carrier::Udp => {
                answer.metadata.truncation = true;
            }
            Some(Misdeed::AlwaysTruncated) => answer.metadata.truncation = true,
            Some(Misdeed::WrongId) => {
                answer.metadata.id = question.metadata.id.wrapping_add(1);
                self.fill(&mut answer, &query, &name, kind);
            }
            Some(Misdeed::WrongQuestion) => {
                self.fill(&mut answer, &query, &name, kind);
                let other = Name::from_ascii("another.test.").ok()?;
                answer.queries = vec![Query::query(other, query.query_type())];
            }
            Some(Misdeed::AliasLoop) => {
                let next = Name::from_ascii(turn(&name)).ok()?;
                let alias = RData::CNAME(CNAME(next));
                answer.add_answer(Record::from_rdata(query.name().clone(), 5, alias));
            }
            Some(Misdeed::Many(count)) => {
                for n in 0..count {
                    let [high, low] = n.to_be_bytes();
                    let ip = RData::A(A::new(10, 0, high, low));
                    answer.add_answer(Record::from_rdata(query.name().clone(), 5, ip));
                }
            }
            Some(Misdeed::Garbage) => {
                let bytes = std::iter::repeat_with(|| fastrand::u8(..)).take(200);
                return Some((bytes.collect(), delay));
            }
            Some(Misdeed::PointerLoop) => return Some((pointer_loop(question)?, delay)),
            Some(Misdeed::Lie(ip)) => {
                add_address(&mut answer, query.name(), kind, ip, 5);
            }
            Some(Misdeed::Truncated) | None => self.fill(&mut answer, &query, &name, kind),
        }
        let bytes = answer.to_vec().ok()?;
        if carrier == Carrier::Udp && bytes.len() > LONGEST {
            answer.answers.clear();
            answer.metadata.truncation = true;
            return Some((answer.to_vec().ok()?, delay));
        }
        Some((bytes, delay))
    }

    fn fill(&self, answer: &mut Message, query: &Query, name: &str, kind: Kind) {
        let Some(entries) = self.zone.get(name) else {
            answer.metadata.response_code = ResponseCode::NXDomain;
            return;
        };
        for entry in entries {
            match (entry, kind) {
                (Entry::Address(ip, ttl), _) => {
                    add_address(answer, query.name(), kind, *ip, *ttl);
                }
                (
                    Entry::Service {
                        priority,
                        weight,
                        port,
                        host,
                        ttl,
                    },
                    Kind::Srv,
                ) => {
                    if let Ok(mut host) = Name::from_ascii(host) {
                        host.set_fqdn(true);
                        let service = RData::SRV(SRV::new(*priority, *weight, *port, host));
                        let record = Record::from_rdata(query.name().clone(), *ttl, service);
                        answer.add_answer(record);
                    }
                }
                (Entry::Service { .. }, _) => {}
            }
        }
    }
}

/// An answer with nothing in it yet.
fn blank(question: &Message, query: &Query) -> Message {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_desired = question.metadata.recursion_desired;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    answer
}

fn add_address(answer: &mut Message, name: &Name, kind: Kind, ip: IpAddr, ttl: u32) {
    let data = match (ip, kind) {
        (IpAddr::V4(ip), Kind::A) => RData::A(A(ip)),
        (IpAddr::V6(ip), Kind::Aaaa) => RData::AAAA(AAAA(ip)),
        _ => return,
    };
    answer.add_answer(Record::from_rdata(name.clone(), ttl, data));
}

fn kind_of(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::SRV => Kind::Srv,
        _ => Kind::Other,
    }
}

fn plain(name: &Name) -> String {
    let text = name.to_ascii().to_ascii_lowercase();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}

/// The next name of a loop.
fn turn(name: &str) -> String {
    match name.strip_prefix("loop-") {
        Some(rest) => format!("{rest}."),
        None => format!("loop-{name}."),
    }
}

/// The question, and a record whose name is a pointer to itself.
fn pointer_loop(question: &Message) -> Option<Vec<u8>> {
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.add_query(question.queries.first()?.clone());
    let mut bytes = answer.to_vec().ok()?;
    let at = u16::try_from(bytes.len()).ok()?;
    bytes.get_mut(6..8)?.copy_from_slice(&1u16.to_be_bytes());
    bytes.extend((0xc000 | at).to_be_bytes());
    bytes.extend([0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 127, 0, 0, 1]);
    Some(bytes)
}

//! Servers that are not the right ones, as far as it can be proven.

use super::*;

fn another_server(endpoint: u32) -> Event {
    Event::DialFailed {
        endpoint: EndpointId(endpoint),
        failure: Failure::new(Cause::WrongName),
    }
}

/// The probes among some orders.
fn probes(actions: &[Action]) -> Vec<(Order, ProbeKind)> {
    let probe = |action: &Action| match action {
        Action::Probe { order, kind, .. } => Some((*order, *kind)),
        _ => None,
    };
    actions.iter().filter_map(probe).collect()
}

#[test]
fn one_proof_is_enough_and_is_not_asked_for_again_at_once() {
    let mut desk = Desk::new(&["192.0.2.1:1", "192.0.2.2:1"]);
    desk.dialled(0);
    desk.dialled(1);
    let actions = desk.hear(another_server(0));
    assert_eq!(desk.standings(), [Standing::Bad, Standing::Good]);
    assert_eq!(probes(&actions), []);
    for _ in 0..9 {
        desk.now += 100 * MS;
        assert_eq!(probes(&desk.hear(Event::Elapsed)), []);
    }
}

#[test]
fn only_a_proof_takes_a_refusal_back() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    let first = probes(&desk.hear(Event::ReconnectAsked));
    desk.hear(another_server(0));
    for (order, kind) in first {
        // A half-open check that was under way says nothing of who answers.
        assert_eq!(kind, ProbeKind::Handshake);
        desk.hear(Event::ProbeAnswered { order, took: MS });
    }
    assert_eq!(desk.standings(), [Standing::Bad]);
    let mut proof = None;
    for _ in 0..300 {
        desk.now += 100 * MS;
        proof = proof.or(probes(&desk.hear(Event::Elapsed)).first().copied());
    }
    let (order, kind) = proof.unwrap();
    assert_eq!(kind, ProbeKind::Proof);
    // It may have been given up meanwhile, so that the last one asked for is answered.
    desk.hear(Event::ReconnectAsked);
    desk.hear(Event::ProbeAnswered { order, took: MS });
    let order = Order(desk.supervisor.next_order);
    desk.hear(Event::ProbeAnswered { order, took: MS });
    // In use again; not preferred before it has been good for a while.
    assert_eq!(desk.standings(), [Standing::Doubtful]);
}

#[test]
fn a_server_that_turns_out_another_one_while_it_is_down_is_told_once() {
    let mut desk = Desk::new(&["192.0.2.1:1"]);
    desk.refuse(0);
    desk.refuse(0);
    let mut told = 0;
    for _ in 0..3 {
        let actions = desk.hear(another_server(0));
        let is_told = |action: &&Action| {
            matches!(action, Action::Tell(Notice::EndpointDown { failure, .. })
                if failure.cause == Cause::WrongName)
        };
        told += actions.iter().filter(is_told).count();
    }
    assert_eq!(told, 1);
}

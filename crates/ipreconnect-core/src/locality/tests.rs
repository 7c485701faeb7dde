use super::*;
use proptest::prelude::*;

#[test]
fn all_remote_origins_at_once_is_our_own_network() {
    let now = crate::beginning();
    let mut locality = Locality::default();
    locality.add(0);
    locality.failed(now, 1, Layer::Transport, Reach::Remote);
    assert_eq!(locality.blame(), Blame::Origin);
    locality.failed(now + Duration::from_secs(3), 2, Layer::Dns, Reach::Remote);
    assert_eq!(locality.blame(), Blame::OwnNetwork);
    locality.worked(1, Reach::Remote);
    assert_eq!(locality.blame(), Blame::Origin);
}

#[test]
fn whoever_is_not_looked_at_says_nothing() {
    let now = crate::beginning();
    let mut locality = Locality::default();
    locality.worked(0, Reach::Remote);
    locality.failed(now, 1, Layer::Transport, Reach::Remote);
    locality.failed(now, 2, Layer::Transport, Reach::Remote);
    assert_eq!(locality.blame(), Blame::Origin);
    locality.silent(0);
    assert_eq!(locality.blame(), Blame::OwnNetwork);
}

#[test]
fn a_server_that_fails_is_judged_without_what_its_origin_said_before() {
    let now = crate::beginning();
    let mut locality = Locality::default();
    for origin in 0..2 {
        locality.worked(origin, Reach::Remote);
    }
    let blame = |locality: &Locality, layer, reach| locality.blame_for(now, 1, layer, reach);
    assert_eq!(
        blame(&locality, Layer::Transport, Reach::Remote),
        Blame::Origin
    );
    locality.failed(now, 0, Layer::Transport, Reach::Remote);
    assert_eq!(
        blame(&locality, Layer::Transport, Reach::Remote),
        Blame::OwnNetwork
    );
    assert_eq!(
        blame(&locality, Layer::Application, Reach::Remote),
        Blame::Origin
    );
    assert_eq!(
        blame(&locality, Layer::Transport, Reach::Local),
        Blame::Origin
    );
    assert_eq!(locality.blame(), Blame::Origin, "it is only asked");
}

proptest! {
    /// Own network is blamed only if at least two remote origins failed within the window, and no
    /// remote origin works.
    #[test]
    fn blame_needs_all_of_them(facts in prop::collection::vec((0u32..4, 0u8..5, any::<bool>(), 0u64..30), 0..40)) {
        let start = crate::beginning();
        let mut now = start;
        let mut locality = Locality::default();
        let mut model: BTreeMap<u32, Option<Option<Instant>>> = BTreeMap::new();
        for (origin, fact, remote, seconds) in facts {
            now += Duration::from_secs(seconds);
            let reach = if remote { Reach::Remote } else { Reach::Local };
            match fact {
                0 | 1 => { locality.failed(now, origin, Layer::Transport, reach); model.insert(origin, remote.then_some(Some(now))); }
                2 => { locality.failed(now, origin, Layer::Application, reach); model.insert(origin, None); }
                3 => { locality.worked(origin, reach); model.insert(origin, remote.then_some(None)); }
                _ => { locality.remove(origin); model.remove(&origin); }
            }
            let works = model.values().any(|fortune| *fortune == Some(None));
            let failed: Vec<Instant> = model.values().filter_map(|f| f.flatten()).collect();
            let spread = failed.iter().max().zip(failed.iter().min()).map(|(a, b)| *a - *b);
            let expected = !works && failed.len() >= 2 && spread <= Some(WINDOW);
            prop_assert_eq!(locality.blame() == Blame::OwnNetwork, expected);
        }
    }
}

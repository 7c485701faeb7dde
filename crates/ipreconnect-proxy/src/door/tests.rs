use super::*;

fn pattern(text: &str) -> HostPattern {
    text.parse().unwrap()
}

#[test]
fn a_pattern_is_a_host_or_everything_below_one() {
    assert!(pattern("Shop.Example").matches("shop.example"));
    assert!(!pattern("shop.example").matches("a.shop.example"));
    let below = pattern("*.shop.example");
    for name in ["a.shop.example", "b.a.shop.example"] {
        assert!(below.matches(name), "{name}");
    }
    for name in [
        "shop.example",
        ".shop.example",
        "workshop.example",
        "shop.example.evil",
    ] {
        assert!(!below.matches(name), "{name}");
    }
    assert_eq!(below.to_string(), "*.shop.example");
}

#[test]
fn what_no_client_can_ask_for_is_no_pattern() {
    for text in [
        "",
        "*",
        "*.",
        "a b",
        "a..b",
        "*.*.example",
        "ex*mple",
        "[::1]",
    ] {
        assert!(text.parse::<HostPattern>().is_err(), "{text:?}");
    }
}

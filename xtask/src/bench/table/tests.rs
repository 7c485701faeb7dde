use super::*;

#[test]
fn days_are_dates() {
    assert_eq!(day(0), "1970-01-01");
    assert_eq!(day(19_782), "2024-02-29");
    assert_eq!(day(20_088), "2024-12-31");
    assert_eq!(day(20_089), "2025-01-01");
}

#[test]
fn a_median_has_a_spread_where_there_is_one() {
    assert_eq!(middle(vec![Some(3.0), Some(1.0), Some(2.5)]), "2.5 (1–3)");
    assert_eq!(middle(vec![Some(0.0), Some(0.0)]), "0");
    assert_eq!(
        middle(vec![None, Some(1234.4), None]),
        "never (1,234–never)"
    );
    assert_eq!(number(1_234_567.0), "1,234,567");
    assert_eq!(number(16.25), "16.2");
}

#[test]
fn a_proxy_that_was_not_measured_is_told() {
    let row = Row {
        scenario: Scenario::Frozen,
        proxy: "envoy".into(),
        rounds: vec![Round::Failed("it is not installed".into())],
    };
    let line = line(&row, true);
    assert!(line.contains("not measured: it is not installed"), "{line}");
    assert_eq!(line.matches('|').count(), 10, "{line}");
}

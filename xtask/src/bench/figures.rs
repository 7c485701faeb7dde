//! Figures as they stand in a table.

/// The median, and the spread where there is one. What never came is later than everything.
pub(crate) fn middle(mut values: Vec<Option<f64>>) -> String {
    values.sort_by(|a, b| {
        let never = f64::INFINITY;
        a.unwrap_or(never).total_cmp(&b.unwrap_or(never))
    });
    let show = |value: Option<&Option<f64>>| match value.copied().flatten() {
        Some(value) => number(value),
        None => "never".to_owned(),
    };
    let median = show(values.get(values.len() / 2));
    let (least, most) = (show(values.first()), show(values.last()));
    match least == most {
        true => median,
        false => format!("{median} ({least}–{most})"),
    }
}

/// A number with its thousands apart, and decimals where it is small and has some.
fn number(value: f64) -> String {
    if value < 1.0 && value.fract() != 0.0 {
        return format!("{value:.3}");
    }
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{middle, number};

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
}

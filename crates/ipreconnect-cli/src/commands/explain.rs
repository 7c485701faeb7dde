//! `explain`: what the four letters at the end of an access line say.

use crate::exit::{Exit, Refusal};

/// Who ended a request.
const WHO: &[(char, &str)] = &[
    ('-', "nobody: it ended in order"),
    (
        'C',
        "the client, which closed its connection or broke it off",
    ),
    ('c', "the client, by saying or taking nothing for too long"),
    (
        'S',
        "the origin, which closed the connection, reset it or could not be reached",
    ),
    ('s', "the origin, by not answering in time"),
    (
        'P',
        "ipreconnect, which refused what it could not read or must not pass on",
    ),
    ('L', "ipreconnect, which answered it by a rule of its own"),
];

/// In which phase.
const WHEN: &[(char, &str)] = &[
    ('-', "after the answer"),
    ('R', "while the request was read"),
    ('Q', "while it waited for its turn"),
    ('C', "while a connection to the origin was looked for"),
    ('H', "after it was sent, before its answer began"),
    ('D', "while the answer was on its way to the client"),
];

/// What it may be good to look at, by the first two letters.
const ADVICE: &[(&str, &str)] = &[
    (
        "CC",
        "The client had no patience for an origin that was away: compare its timeout with `hold.for`.",
    ),
    (
        "CD",
        "A download that was broken off; only many of them are a sign of something.",
    ),
    (
        "CH",
        "The client gave up before the answer: is the origin slow? Look at `first_byte_ms` of other lines.",
    ),
    (
        "LR",
        "No route was for it, or `requires` had something that was down.",
    ),
    (
        "PC",
        "The origin could not prove who it is: `ipreconnect identity`, and the log's lines about that origin.",
    ),
    (
        "PD",
        "The origin's answer had broken chunks, and the client was told so by a torn connection; or its user had used up the bytes of the day.",
    ),
    (
        "PH",
        "What the origin answered is no HTTP, or can be read in two ways.",
    ),
    (
        "PQ",
        "`hold.clients` is reached: more requests wait than may.",
    ),
    (
        "PR",
        "The request cannot be read, or a rule is against it: `cause` or `rule` of the line says why, as the answer did.",
    ),
    (
        "SC",
        "No endpoint was up for as long as a request may wait: `ipreconnect status`.",
    ),
    (
        "SD",
        "The origin went away in the middle of an answer. The client saw a torn connection, not a short answer.",
    ),
    (
        "SH",
        "The connection was lost before the answer, and the request may not be sent again.",
    ),
    ("SQ", "The origin is taken out of service."),
    ("cD", "The client took nothing for `limits.stall`."),
    (
        "cR",
        "Head or body of the request did not come in time: `limits.header_timeout`, `limits.stall`.",
    ),
    (
        "sD",
        "The origin fell silent in the middle of an answer for `timeouts.idle`.",
    ),
    (
        "sH",
        "No answer began within `timeouts.first_byte`. It was not sent again: slow is not broken.",
    ),
];

/// Says what a code means.
pub(crate) fn run(code: &str, json: bool) -> Result<Exit, Refusal> {
    let mut letters = code.chars();
    let (who, when) = (letters.next(), letters.next());
    let find = |table: &[(char, &'static str)], letter: Option<char>| {
        let mut entries = table.iter();
        entries
            .find(|(own, _)| Some(*own) == letter)
            .map(|(_, words)| *words)
    };
    let (Some(who), Some(when)) = (find(WHO, who), find(WHEN, when)) else {
        let message = format!("{code:?} is no code of the access log");
        let hint =
            "codes have four letters, as SH--; `ipreconnect explain` alone shows all of them";
        return Err(Refusal::new(Exit::Wrong, message).hint(hint));
    };
    let pair: String = code.chars().take(2).collect();
    let advice = ADVICE
        .iter()
        .find(|(own, _)| *own == pair)
        .map(|(_, words)| *words);
    if json {
        super::print_json(&serde_json::json!({
            "schema": 1, "code": code, "who": who, "when": when, "advice": advice,
        }));
        return Ok(Exit::Fine);
    }
    println!("{code}");
    println!("  ended by  {who}");
    println!("  when      {when}");
    if let Some(advice) = advice {
        println!("\n{advice}");
    }
    Ok(Exit::Fine)
}

/// Shows all letters.
pub(crate) fn all(json: bool) -> Exit {
    if json {
        let object = |table: &[(char, &str)]| -> serde_json::Map<String, serde_json::Value> {
            let entries = table.iter();
            entries
                .map(|(letter, words)| (letter.to_string(), (*words).into()))
                .collect()
        };
        super::print_json(&serde_json::json!({
            "schema": 1, "who": object(WHO), "when": object(WHEN),
        }));
        return Exit::Fine;
    }
    println!("The first letter: who ended the request");
    for (letter, words) in WHO {
        println!("  {letter}  {words}");
    }
    println!("\nThe second letter: when");
    for (letter, words) in WHEN {
        println!("  {letter}  {words}");
    }
    println!(
        "\nThe third and the fourth are for cookies, as in HAProxy's log, and are dashes here."
    );
    Exit::Fine
}

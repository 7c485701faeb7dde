use proptest::prelude::*;

use super::*;

fn http(good: &str) -> Question {
    Question::Http(Arc::new(HttpQuestion {
        path: "/healthz".into(),
        host: None,
        good: good.parse().unwrap(),
        is_h2: false,
    }))
}

fn words(send: &str, expect: &str) -> Question {
    Question::Words(Arc::new(Words {
        send: send.as_bytes().into(),
        expect: expect.as_bytes().into(),
    }))
}

fn why(judgement: Judgement) -> String {
    match judgement {
        Judgement::Bad(failure) => failure.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn statuses_are_single_ones_and_ranges() {
    let statuses: Statuses = "200-299, 404,503-503".parse().unwrap();
    for (status, is_good) in [
        (199, false),
        (200, true),
        (299, true),
        (300, false),
        (404, true),
        (405, false),
        (503, true),
        (504, false),
    ] {
        assert_eq!(statuses.contains(status), is_good, "{status}");
    }
    assert!(Statuses::default().contains(399) && !Statuses::default().contains(400));
    for (text, error) in [
        ("", StatusesError::Length),
        ("200,", StatusesError::Length),
        ("20", StatusesError::Number),
        ("+20", StatusesError::Number),
        ("2000", StatusesError::Number),
        ("100", StatusesError::Number),
        ("600", StatusesError::Number),
        ("200-", StatusesError::Number),
        ("ok", StatusesError::Number),
        ("299-200", StatusesError::Backwards),
    ] {
        assert_eq!(text.parse::<Statuses>(), Err(error), "{text:?}");
    }
}

#[test]
fn an_endpoint_is_asked_for_the_host_or_for_its_address() {
    let address = Address::Tcp("192.0.2.1:8080".parse().unwrap());
    let asked = String::from_utf8(http("200").bytes(&address)).unwrap();
    assert!(asked.starts_with("GET /healthz HTTP/1.1\r\nHost: 192.0.2.1:8080\r\n"));
    assert!(asked.contains(&format!("\r\nUser-Agent: {AGENT}\r\n")));
    assert!(asked.ends_with("\r\n\r\n"));
    let Question::Http(question) = http("200") else {
        unreachable!()
    };
    let named = HttpQuestion {
        host: Some("shop".into()),
        ..(*question).clone()
    };
    assert_eq!(named.host_at(&address), "shop");
    assert_eq!(
        question.host_at(&Address::Unix(std::path::Path::new("/run/x").into())),
        "localhost"
    );
}

#[test]
fn the_status_decides_and_what_only_informs_does_not() {
    let question = http("200-399");
    let good = b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(question.judge(good), Judgement::Good);
    let bad = question.judge(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
    assert_eq!(why(bad), "the health check was answered with 503");
    let bad = question.judge(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
    assert!(why(bad).starts_with("the health check was not answered in HTTP"));
    let end = question.judge_end(b"HTTP/1.1 20").to_string();
    assert_eq!(
        end,
        "the health check was not answered: the server closed the connection"
    );
}

#[test]
fn words_are_compared_from_the_beginning() {
    let question = words("PING\r\n", "+PONG");
    assert_eq!(question.judge(b"+PO"), Judgement::Open);
    assert_eq!(question.judge(b"+PONG\r\n"), Judgement::Good);
    let bad = question.judge(b"-NOAUTH Authentication required.\r\n");
    assert_eq!(
        why(bad),
        "the health check was answered with \"-NOAUTH Authentication required.…\""
    );
    let end = question.judge_end(b"+P").to_string();
    assert_eq!(end, "the health check was answered with \"+P\"");
}

proptest! {
    /// However an answer is cut into pieces, the first verdict on it is the verdict on the whole.
    #[test]
    fn no_piece_of_an_answer_says_another_thing(
        status in 200u16..600,
        field in "[a-z]{1,10}",
        answer in "[+-][A-Z]{0,8}",
    ) {
        let cases = [
            (http("200-299,404"), format!("HTTP/1.1 {status} X\r\nx-{field}: 1\r\n\r\n{field}")),
            (words("", "+PONG"), answer),
        ];
        for (question, text) in cases {
            let whole = question.judge(text.as_bytes());
            let first = (0..=text.len())
                .map(|end| question.judge(&text.as_bytes()[..end]))
                .find(|judgement| *judgement != Judgement::Open)
                .unwrap_or(Judgement::Open);
            prop_assert_eq!(
                std::mem::discriminant(&first),
                std::mem::discriminant(&whole)
            );
        }
    }

    /// No answer has it read on for ever.
    #[test]
    fn every_answer_is_judged_in_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let mut long = bytes;
        long.resize(ANSWER, b'a');
        prop_assert_ne!(http("200").judge(&long), Judgement::Open);
        prop_assert_ne!(words("", "+PONG").judge(&long), Judgement::Open);
    }
}

//! `tail` and `record` over each transport, and past what lets no WebSocket through.

use std::net::SocketAddr;

use crate::corpus::corpus;
use crate::harness::middle::{Manner, Middle};
use crate::harness::tls::Certificates;
use crate::harness::tool::Tool;
use crate::harness::{Daemon, Scratch, Setup, luxcast, seq_of, wait_until};

const TRANSPORTS: [&str; 4] = ["auto", "websocket", "sse", "ndjson"];
const FALLBACK: &str = "no WebSocket gets through";

fn line(number: u32) -> String {
    format!(r#"{{"type":"x","job_id":"j","n":{number}}}"#)
}

fn tail(address: SocketAddr, arguments: &[&str]) -> Tool {
    let mut command = luxcast();
    command.args(["tail", "--json", "--url", &address.to_string()]).args(arguments);
    Tool::start(&mut command)
}

/// How the daemon names the transports of its watchers.
fn seen(daemon: &Daemon) -> Vec<String> {
    daemon.connections().iter().map(|row| row["transport"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn each_transport_shows_the_same() {
    let daemon = Daemon::start(&[]);
    let lines = corpus();
    daemon.acked_feed().publish(lines.iter().map(|line| line.text.as_str()));
    let tails =
        TRANSPORTS.map(|transport| tail(daemon.address, &["--since", "start", "--transport", transport]));
    let shown = tails.each_ref().map(|tail| (0..lines.len()).map(|_| tail.line()).collect::<Vec<_>>());
    assert!(shown.iter().all(|lines| *lines == shown[0]), "they differ");
    for (line, published) in shown[0].iter().zip(&lines) {
        assert!(line.ends_with(&published.text[1..]), "{line}");
    }
    let mut transports = seen(&daemon);
    transports.sort();
    assert_eq!(transports, ["ndjson", "sse", "websocket", "websocket"]);
    assert!(tails.iter().all(|tail| tail.stderr.so_far().is_empty()));
    // A recording too.
    for transport in TRANSPORTS {
        let mut command = luxcast();
        command.args(["record", "-", "--url", &daemon.address.to_string(), "--transport", transport]);
        let record = Tool::start(&mut command);
        assert!(lines.iter().take(2_000).all(|line| record.line() == line.text), "{transport}");
    }
}

#[test]
fn what_lets_no_websocket_through_is_passed_over_plain_http() {
    let daemon = Daemon::start(&[]);
    daemon.acked_feed().publish([line(1).as_str(), &line(2)]);
    for manner in [Manner::Strip, Manner::Page, Manner::Close, Manner::Swallow] {
        let middle = Middle::start(daemon.address, manner);
        let tail = tail(middle.address, &["--since", "start"]);
        assert!([1, 2].iter().all(|number| tail.line().contains(&format!("\"n\":{number}"))), "{manner:?}");
        wait_until("the reason is told", || tail.stderr.so_far().contains(FALLBACK));
        let said = tail.stderr.so_far();
        assert!(said.matches(FALLBACK).count() == 1 && said.lines().count() == 1, "{manner:?}: {said}");
        assert_eq!(middle.requests(), (1, 1), "{manner:?}");
        daemon.acked_feed().publish([line(3).as_str()]);
        assert!(tail.line().contains("\"n\":3"), "{manner:?}");
    }
    // Who asks for a WebSocket gets no other, and who asks for another needs none.
    let middle = Middle::start(daemon.address, Manner::Strip);
    let (code, said) = tail(middle.address, &["--transport", "websocket"]).end();
    assert!(code == 1 && said.contains("refused: 426 upgrade_required"), "{said}");
    let events = tail(middle.address, &["--transport", "sse", "--since", "-1"]);
    assert!(events.line().contains("\"n\":3"));
    assert_eq!((middle.requests(), events.stderr.so_far().as_str()), ((1, 1), ""));
}

#[test]
fn websocket_is_tried_again_whenever_the_connection_is_lost() {
    let daemon = Daemon::start(&[]);
    let middle = Middle::start(daemon.address, Manner::Strip);
    let mut feed = daemon.acked_feed();
    feed.publish([line(0).as_str()]);
    let tail = tail(middle.address, &["--since", "start"]);
    let mut numbers = vec![tail.line()];
    for (number, manner) in (1..).zip([Manner::Page, Manner::Pass, Manner::Strip]) {
        middle.behave(manner);
        middle.cut();
        feed.publish([line(number).as_str()]);
        numbers.push(tail.line());
        assert!(numbers.last().unwrap().contains(&format!("\"n\":{number}")), "{numbers:?}");
        let expected = if manner == Manner::Pass { "websocket" } else { "ndjson" };
        wait_until("only the new connection is left", || seen(&daemon) == [expected]);
    }
    wait_until("all is told", || tail.stderr.so_far().matches("connected again").count() == 3);
    let said = tail.stderr.so_far();
    assert_eq!(said.matches(FALLBACK).count(), 1, "{said}");
    assert_eq!(middle.requests(), (4, 3));
    assert!(numbers.is_sorted_by_key(|line| seq_of(line)), "{numbers:?}");
}

#[test]
fn a_restart_is_no_loss_on_any_transport() {
    let scratch = Scratch::new();
    let state = scratch.path().to_str().unwrap().to_owned();
    let start = || Daemon::start(&["--state-dir", &state]);
    let mut daemon = start();
    let middle = Middle::start(daemon.address, Manner::Pass);
    let tails = TRANSPORTS
        .map(|transport| (transport, tail(middle.address, &["--since", "start", "--transport", transport])));
    for number in 0..3 {
        if number > 0 {
            daemon.stop();
            daemon = start();
            middle.lead_to(daemon.address);
        }
        let [first, second] = [number * 2, number * 2 + 1].map(line);
        daemon.acked_feed().publish([first.as_str(), &second]);
        for (transport, tail) in &tails {
            for expected in [&first, &second] {
                let shown = tail.line();
                assert!(shown.ends_with(&expected[1..]), "{transport}: {shown}\n{}", tail.stderr.so_far());
            }
        }
    }
    for (transport, tail) in &tails {
        let goodbye = "the daemon says goodbye: ";
        wait_until("both goodbyes are told", || tail.stderr.so_far().matches(goodbye).count() == 2);
        let said = tail.stderr.so_far();
        assert!(!said.contains("gap") && !said.contains("cut off"), "{transport}: {said}");
    }
}

#[test]
fn an_ordered_end_is_told_from_a_cut() {
    let mut daemon = Daemon::start(&[]);
    daemon.acked_feed().publish([line(1).as_str()]);
    let middle = Middle::start(daemon.address, Manner::Pass);
    for transport in ["sse", "ndjson"] {
        let arguments = ["--since", "start", "--transport", transport];
        let mut cut = tail(middle.address, &arguments);
        cut.line();
        middle.cut();
        wait_until("the cut is told", || cut.stderr.so_far().contains("the connection was cut off"));
        let _ = cut.child.kill();
    }
    let mut tails = TRANSPORTS.map(|transport| {
        let tail = tail(daemon.address, &["--since", "start", "--once", "--transport", transport]);
        tail.line();
        tail
    });
    daemon.stop();
    for tail in &mut tails {
        let (code, said) = tail.end();
        assert_eq!((code, said.as_str()), (0, "luxcast tail: the daemon says goodbye: draining\n"));
    }
}

#[test]
fn the_daemons_refusal_and_the_end_of_a_job_are_the_same_on_every_transport() {
    let scratch = Scratch::new();
    let tokens = scratch.path().join("tokens");
    std::fs::write(&tokens, "good-token-good-token all\n").unwrap();
    let daemon = Setup::default().flags(&["--token-file", tokens.to_str().unwrap()]).start();
    let job = |end: &str| format!(r#"{{"type":"{end}","job_id":"{end}"}}"#);
    daemon.acked_feed().publish(["job_completed", "job_failed"].map(job).iter().map(String::as_str));
    for transport in TRANSPORTS {
        let refused = tail(daemon.address, &["--transport", transport]).end();
        assert!(
            refused.0 == 1 && refused.1.contains("refused: 401 unauthorized"),
            "{transport}: {refused:?}"
        );
        assert!(!refused.1.contains(FALLBACK), "{refused:?}");
        for (end, code) in [("job_completed", 0), ("job_failed", 1)] {
            let given = ["--job", end, "--until-end", "--exit-status", "--token", "good-token-good-token"];
            let ended = tail(daemon.address, &[&given[..], &["--transport", transport]].concat()).end();
            assert_eq!(ended, (code, String::new()), "{transport}");
        }
        let given = ["--token", "good-token-good-token", "--timeout", "0.3", "--transport", transport];
        assert_eq!(tail(daemon.address, &given).end(), (0, String::new()), "{transport}");
        let given = ["--token", "good-token-good-token", "--timeout", "0.3", "--job", "k", "--until-end"];
        let ended = tail(daemon.address, &[&given[..], &["--transport", transport]].concat()).end();
        assert_eq!(ended.0, 3, "{transport}");
    }
}

#[test]
fn plain_http_is_encrypted_where_the_address_says_so() {
    let certificates = Certificates::new();
    let daemon = certificates.setup().start();
    daemon.acked_feed().publish([line(1).as_str()]);
    let url = format!("https://{}", daemon.address);
    let authority = certificates.text_path("ca.pem");
    for transport in TRANSPORTS {
        let mut command = luxcast();
        command.args(["tail", "--json", "--since", "start", "--url", &url, "--transport", transport]);
        let trusting = Tool::start(command.args(["--ca", &authority]));
        assert!(trusting.line().contains("\"n\":1"), "{transport}");
        let mut command = luxcast();
        command.args(["tail", "--url", &url, "--transport", transport]);
        let (code, said) = Tool::start(&mut command).end();
        assert!(code == 1 && said.contains("certificate") && !said.contains(FALLBACK), "{transport}: {said}");
    }
}

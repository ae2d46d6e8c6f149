//! `luxcast bus` with the real server: the stream that it makes and finds, and who is let in.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use async_nats::jetstream::{self, stream};
use luxcast::bus::numbers::Epochs;
use nkeys::KeyPair;

use crate::desk::Desk;
use crate::keys::{Certificates, Operator};
use crate::server::{NEWEST, NatsServer, VERSIONS};
use crate::{BASE, block_on, create_stream};

/// The exit code, and what was written to standard output and to standard error.
pub fn luxcast(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luxcast"));
    let variables = std::env::vars_os().map(|(name, _)| name);
    for name in variables.filter(|name| name.as_encoded_bytes().starts_with(b"LUXCAST_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).stdin(Stdio::null()).output().expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it ends by itself"), text(&output.stdout), text(&output.stderr))
}

fn bus(what: &str, url: &str, more: &[&str]) -> (i32, String, String) {
    luxcast(&[&["bus", what, "--bus", url], more].concat())
}

/// What the page of the commands lists for `bus`.
fn documented_codes() -> BTreeSet<i32> {
    let page = include_str!("../../src/cli/README.md");
    let row = page.lines().find_map(|line| line.strip_prefix("| `bus` |")).expect("it has its row");
    let cells = row.split('|').map(str::trim);
    (0..).zip(cells).filter(|(_, cell)| !cell.is_empty()).map(|(code, _)| code).collect()
}

#[test]
fn a_stream_is_made_once_and_found_right_by_every_version() {
    let mut codes = BTreeSet::new();
    for version in VERSIONS {
        let server = NatsServer::start(version, "");
        let url = server.url();
        let mut run = |what: &str, more: &[&str], code: i32, words: &str| {
            let (found, shown, said) = bus(what, &url, more);
            assert!(found == code && (shown + &said).contains(words), "{version} {what} {more:?}: {said}");
            codes.insert(code);
        };
        run("check", &[], 1, "there is no stream LUXCAST");
        run("create", &[], 1, "try --replicas 1");
        run("create", &["--replicas", "6"], 2, "--replicas");
        run("check", &["--line-bytes-max", "1048000"], 1, "max_payload is 1048576");
        run("create", &["--replicas", "1", "--after", "9007199254740991"], 2, "--after");
        let after = BASE.to_string();
        let one = ["--replicas", "1", "--max-age", "3600", "--max-bytes", "16777216", "--after", &after];
        run("create", &one, 0, "made the stream LUXCAST on luxcast.events: 1 copy");
        run("create", &one, 0, "is there, and as it should be");
        run("create", &[], 0, "is there, and as it should be");
        run("check", &[], 0, "ok: may read from LUXCAST");
        run("check", &[], 0, &format!("is nats-server {version}"));
        // Other bounds of the feed than those that the stream was made for.
        run("create", &["--line-bytes-max", "5000"], 1, "luxcast.line_bytes_max is 1000000");
        run("check", &["--depth-max", "10"], 1, "error: LUXCAST: its luxcast.depth_max is 64");
        run("check", &["--depth-max", "100"], 0, "warning: LUXCAST: its luxcast.depth_max is 64");
        run(
            "check",
            &["--line-bytes-max", "1048000"],
            0,
            "line_bytes_max is 1048000 here: the stream's holds",
        );
        run(
            "create",
            &["--line-bytes-max", "1048000"],
            1,
            "line_bytes_max is 1048000 here: the stream's holds",
        );
        run("new-epoch", &["--after", "1", "--yes"], 2, "as in a stream that has lost nothing");
        run("new-epoch", &["--after", "1", "--force"], 2, "nothing was changed; with --yes, from message 1");
        run("new-epoch", &["--after", "1", "--from", "2", "--yes"], 2, "ends with message 0");
        let seen = BASE * 2;
        let begin = ["--after", &seen.to_string(), "--yes"];
        run("new-epoch", &begin, 0, "from message 1 on");
        // Did it work?
        run("new-epoch", &begin, 2, "as in a stream that has lost nothing");
        run("new-epoch", &[&begin[..], &["--from", "1"]].concat(), 2, "that epoch is there already");
        run("check", &[], 0, "later epochs 1:");
        run("create", &one, 0, "is there, and as it should be");
        let higher = (seen * 2).to_string();
        run("create", &["--after", &higher], 1, "its numbers begin at");
    }
    // Each server is looked at, and one of them is not there.
    let two = [NEWEST, VERSIONS[0]].map(|version| NatsServer::start(version, "max_payload: 2000000"));
    assert_eq!(bus("create", &two[0].url(), &["--replicas", "1"]).0, 0);
    let (others, gone) = (["--bus", &two[1].url(), "--bus", "nats://127.0.0.1:1"], "nats://127.0.0.1:1: ");
    let (_, shown, _) = bus("check", &two[0].url(), &others);
    for server in &two {
        let line = format!("ok: {}: {} is nats-server ", server.url(), server.name);
        assert!(shown.contains(&line) && shown.contains("max_payload 2000000"), "{shown}");
    }
    assert!(shown.contains(&format!("warning: {gone}")), "{shown}");
    let (code, _, said) = bus("check", "nats://127.0.0.1:1", &[]);
    assert!(code == 1 && said.contains("nats://127.0.0.1:1: ") && said.contains("refused"), "{said}");
    let (code, _, said) = luxcast(&["bus", "check"]);
    assert!(code == 2 && said.contains("bus is not set"), "{said}");
    codes.extend([1, 2]);
    assert_eq!(codes, documented_codes());
}

#[test]
fn another_stream_is_left_as_it_is_and_each_difference_is_named() {
    let server = NatsServer::start(NEWEST, "");
    let info = |change: fn(&mut stream::Config)| {
        block_on(async {
            let client = async_nats::connect(server.url()).await.unwrap();
            let jetstream = jetstream::new(client);
            let mut config = jetstream.get_stream("LUXCAST").await.unwrap().cached_info().config.clone();
            change(&mut config);
            jetstream.update_stream(config).await.unwrap().config
        })
    };
    create_stream(&server);
    let (code, shown, _) = bus("check", &server.url(), &[]);
    assert!(code == 0 && shown.contains("warning: LUXCAST: deny_purge is false, not true"), "{shown}");
    let before = info(|config| {
        config.subjects.push("other".to_owned());
        config.allow_rollup = true;
        config.max_messages_per_subject = 7;
    });
    let (code, _, said) = bus("create", &server.url(), &["--replicas", "3", "--max-age", "3600"]);
    assert!(code == 1 && said.contains("was not changed"), "{said}");
    for word in
        ["subjects is ", "allow_rollup_hdrs is true", "max_msgs_per_subject is 7, not -1", "deny_delete is"]
    {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(
        said.contains("num_replicas is 1, not 3") && said.contains("max_age is none, not 3600 s"),
        "{said}"
    );
    let (code, shown, _) = bus("check", &server.url(), &[]);
    assert!(code == 1 && shown.contains("error: LUXCAST: allow_rollup_hdrs is true"), "{shown}");
    // A new epoch keeps all else as it is, also what is wrong with it.
    let (code, ..) = bus("new-epoch", &server.url(), &["--after", "1", "--force", "--yes"]);
    let mut after = info(|_| {});
    assert!(after.metadata.remove("luxcast.epochs").is_some() && code == 0);
    assert_eq!(after, before);
}

#[test]
fn an_age_is_large_enough_or_warned_of_or_refused_before_any_server_is_asked() {
    let (code, _, said) = bus("create", "nats://127.0.0.1:1", &["--max-age", "119"]);
    assert!(code == 2 && said.contains("119 is not in 120.."), "{said}");
    let server = NatsServer::start(NEWEST, "");
    for (stream, age, is_short) in [("A", "120", true), ("B", "1199", true), ("C", "1200", false)] {
        let flags = [
            "--replicas",
            "1",
            "--bus-stream",
            stream,
            "--bus-subject",
            &format!("luxcast.{stream}"),
            "--max-age",
            age,
        ];
        // It is made, then found as it should be.
        for _ in 0..2 {
            let (code, _, said) = bus("create", &server.url(), &flags);
            let warning = format!("warning: max_age is {age} s: with less than 1200 s");
            assert!(code == 0 && said.contains(&warning) == is_short, "{age}: {said}");
        }
        let (code, shown, _) = bus("check", &server.url(), &flags[2..6]);
        assert!(code == 0 && shown.contains("with less than 1200 s") == is_short, "{age}: {shown}");
    }
}

#[test]
fn of_epochs_that_are_begun_at_once_none_is_lost_that_was_said_to_be_there() {
    let server = NatsServer::start(NEWEST, "");
    let url = server.url();
    assert_eq!(bus("create", &url, &["--replicas", "1"]).0, 0);
    let begun: Vec<(i32, String, String)> = thread::scope(|scope| {
        let begin = |n: u64| {
            let (url, after) = (&url, (BASE * 2 + n).to_string());
            scope.spawn(move || bus("new-epoch", url, &["--after", &after, "--yes"]))
        };
        let all: Vec<_> = (0..6).map(begin).collect();
        all.into_iter().map(|one| one.join().expect("it ends")).collect()
    });
    let metadata = &Desk::new(vec![url]).info()["config"]["metadata"];
    let text = |name: &str| metadata[name].as_str().expect("luxcast made it").to_owned();
    let epochs = Epochs::parse(&text("luxcast.base"), &text("luxcast.epochs")).expect("luxcast made it");
    let stored: Vec<String> = epochs
        .later_text()
        .split(' ')
        .map(|epoch| epoch.split_once(':').expect("FROM:BASE").1.parse::<u64>().expect("a number"))
        .map(|base| format!("begin at {}\n", base + 1_024))
        .collect();
    for (code, shown, said) in &begun {
        assert_eq!(*code == 0, stored.iter().any(|end| shown.ends_with(end)), "{shown}{said} {stored:?}");
    }
    assert!(begun.iter().any(|(code, ..)| *code == 0), "{begun:?}");
}

/// What SECURITY.md says that a daemon's user needs, and no more.
const LEAST: &str = r#"publish: ["luxcast.events", "$JS.API.STREAM.INFO.LUXCAST", "$JS.API.STREAM.MSG.GET.LUXCAST",
    "$JS.API.CONSUMER.CREATE.LUXCAST.>", "$JS.API.CONSUMER.MSG.NEXT.LUXCAST.>", "$JS.API.CONSUMER.DELETE.LUXCAST.>"], subscribe: ["_INBOX_luxcast.>"]"#;

#[test]
fn a_daemon_needs_few_rights_and_lacking_ones_are_named() {
    let page = include_str!("../../.github/SECURITY.md");
    let subjects: Vec<&str> = LEAST.split('"').skip(1).step_by(2).collect();
    assert!(subjects.iter().all(|subject| page.contains(&format!("`{subject}`"))), "SECURITY.md lists them");
    let [operator, daemon, reader] = [(); 3].map(|()| KeyPair::new_user());
    let less = LEAST.replace("\"luxcast.events\", ", "");
    let server = NatsServer::start(
        NEWEST,
        &format!(
            "authorization {{ users: [ {{ nkey: {} }}, {{ nkey: {}, permissions: {{ {LEAST} }} }},
             {{ nkey: {}, permissions: {{ {less} }} }} ] }}",
            operator.public_key(),
            daemon.public_key(),
            reader.public_key()
        ),
    );
    let run = |what: &str, key: &KeyPair, more: &[&str]| {
        let file = server.directory.path().join("user.nk");
        fs::write(&file, key.seed().unwrap()).unwrap();
        let result = bus(what, &server.url(), &[&["--bus-nkey-file", file.to_str().unwrap()], more].concat());
        assert!(!format!("{result:?}").contains(&key.seed().unwrap()));
        result
    };
    let needs = "it needs the operator's key (--bus-nkey-file";
    let (code, _, said) = run("create", &daemon, &["--replicas", "1"]);
    assert!(code == 1 && said.contains("Permissions Violation") && said.contains(needs), "{said}");
    assert_eq!(run("create", &operator, &["--replicas", "1"]).0, 0);
    let (code, _, said) = run("new-epoch", &daemon, &["--after", "1", "--force", "--yes"]);
    assert!(code == 1 && said.contains("Permissions Violation") && said.contains(needs), "{said}");
    let (code, shown, said) = run("check", &daemon, &[]);
    assert!(code == 0 && shown.matches("ok: may ").count() == 5, "{shown} {said}");
    let (code, shown, _) = run("check", &reader, &[]);
    assert!(code == 1 && shown.contains("error: may not publish to luxcast.events: "), "{shown}");
    assert!(shown.contains("Permissions Violation for Publish") && shown.contains("ok: may read"), "{shown}");
    assert!(!shown.contains(needs), "{shown}");
    let (code, _, said) = run("check", &KeyPair::new_user(), &[]);
    assert!(code == 1 && said.to_lowercase().contains("authorization violation"), "{said}");
}

#[test]
fn servers_are_trusted_by_their_authority_and_passwords_stay_secret() {
    let certificates = Certificates::new();
    let path = |name: &str| certificates.path(name);
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" {{}} }}\nauthorization {{ user: me, password: \"se@cret\" }}",
        path("server.pem"),
        path("server.key")
    );
    let server = NatsServer::start(NEWEST, &tls.replace(" {}", ""));
    let port = server.address.port();
    let url = |login: &str| format!("tls://{login}localhost:{port}");
    let ca = ["--bus-ca-file", &path("ca.pem")];
    let (code, _, said) = bus("create", &url("me:se%40cret@"), &[&ca[..], &["--replicas", "1"]].concat());
    assert_eq!(code, 0, "{said}");
    for (login, more, word) in [
        ("me:secr3t@", &ca[..], "authorization violation"),
        ("secr3t@", &ca, "authorization violation"),
        ("me:se%40cret@", &[], "its certificate comes from no authority that is trusted here"),
        ("me:se%40cret@", &["--bus-ca-file", &path("server.key")], "bus_ca_file: "),
        ("me:se%40cret@", &["--bus-ca-file", "/no/such/file"], "bus_ca_file: /no/such/file"),
    ] {
        let (code, shown, said) = bus("check", &url(login), more);
        assert!(code > 0 && said.contains(word), "{more:?}: {said}");
        for text in [&shown, &said] {
            assert!(!text.contains("secr3t") && !text.contains("cret@"), "{text}");
        }
        let mut flags = vec!["check-config", "--bus"];
        let address = url(login);
        flags.push(&address);
        let (_, shown, said) = luxcast(&flags);
        assert!(shown.contains(&format!("tls://***@localhost:{port}")), "{shown} {said}");
        assert!(!(shown + &said).contains("cr3t"));
    }
    // A server that shows the authority's own certificate, as one does that signs itself.
    let itself = tls.replace("server.pem", "ca.pem").replace("server.key", "ca.key").replace(" {}", "");
    let itself = NatsServer::start(NEWEST, &itself);
    let (code, _, said) =
        bus("check", &format!("tls://me:se%40cret@localhost:{}", itself.address.port()), &ca);
    assert!(code == 1 && said.contains("its certificate is that of an authority"), "{said}");
    // The server's own word does not make a client speak in the clear.
    let plain = NatsServer::start(NEWEST, "");
    let (code, ..) = bus("check", &format!("tls://me:secr3t@localhost:{}", plain.address.port()), &ca);
    assert!(code == 1 && !plain.log_text().contains("secr3t"));
}

#[test]
fn a_server_that_asks_for_a_certificate_gets_it() {
    let certificates = Certificates::new();
    let path = |name: &str| certificates.path(name);
    let tls = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    let server = NatsServer::start(NEWEST, &tls);
    let url = format!("tls://127.0.0.1:{}", server.address.port());
    let ca = ["--bus-ca-file", &path("ca.pem")];
    let own = ["--bus-certificate-file", &path("client.pem"), "--bus-key-file", &path("client.key")];
    let (code, _, said) = bus("create", &url, &[&ca[..], &own, &["--replicas", "1"]].concat());
    assert_eq!(code, 0, "{said}");
    let (code, _, said) = bus("check", &url, &ca);
    assert!(code == 1 && said.contains("luxcast bus check: tls://127.0.0.1:"), "{said}");
    let half = [&ca[..], &own[..2]].concat();
    let (code, _, said) = bus("check", &url, &half);
    assert!(code == 2 && said.contains("also needs bus_key_file"), "{said}");
    // Whatever is wrong with the two files is known before anybody connects.
    for (certificate, key, word) in [
        ("client.pem", "server.key", "server.key is not that of the certificate in"),
        ("client.key", "client.key", "client.key has no certificate in it"),
        ("client.pem", "client.pem", "client.pem has no private key in it"),
        ("client.pem", "none.key", "cannot read"),
    ] {
        let (certificate, key) = (path(certificate), path(key));
        let files = ["--bus-certificate-file", &certificate, "--bus-key-file", &key];
        let all = [&["--bus", &url][..], &ca, &files].concat();
        for (command, expected) in [(&["check-config"][..], 2), (&["bus", "check"], 2), (&["serve"], 2)] {
            let (code, _, said) = luxcast(&[command, &all].concat());
            assert!(code == expected && said.contains(word), "{command:?}: {code} {said}");
            assert!(said.contains("bus_certificate_file, bus_key_file: "), "{said}");
        }
    }
}

#[test]
fn a_file_of_credentials_signs_in() {
    let operator = Operator::new();
    let server = NatsServer::start(NEWEST, &operator.server_config());
    let file = server.directory.path().join("user.creds");
    let run = |what: &str, more: &[&str]| {
        let flags = ["--bus-credentials-file", file.to_str().unwrap()];
        bus(what, &server.url(), &[&flags[..], more].concat())
    };
    fs::write(&file, operator.credentials()).unwrap();
    let (code, _, said) = run("create", &["--replicas", "1"]);
    assert_eq!(code, 0, "{said} {}", server.log_text());
    assert_eq!(run("check", &[]).0, 0);
    let other = Operator::new().credentials();
    fs::write(&file, &other).unwrap();
    let (code, _, said) = run("check", &[]);
    assert!(code == 1 && said.to_lowercase().contains("authorization violation"), "{said}");
    let secrets = other.lines().filter(|line| line.len() > 40 && !line.contains(' '));
    assert!(secrets.clone().count() >= 2 && secrets.into_iter().all(|secret| !said.contains(secret)));
    fs::write(&file, "nothing").unwrap();
    let (code, _, said) = run("check", &[]);
    assert!(
        code == 2 && said.contains("bus_credentials_file: ") && said.contains("no NATS USER JWT"),
        "{said}"
    );
}

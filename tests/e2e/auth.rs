//! Section 7: who may watch what, and how clients authenticate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use luxcast::access::jwt::{Claims, sign};
use luxcast::config::JwtAlgorithm;
use serde_json::{Value, json};

use crate::harness::{Client, Daemon, Raw, Scratch, Setup, luxcast, seq_of, wait_until};

const EVENTS: &str = "/api/ws/events";
const MANY: &str = "/api/v1/websocket";

/// A directory with a token file, which tests rewrite, and with keys.
struct Files(Scratch);

impl Files {
    fn new() -> Self {
        Self(Scratch::new())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("the directory can be written");
        path.to_str().expect("the path is UTF-8").to_owned()
    }

    /// A daemon with these lines in its token file.
    fn daemon(&self, tokens: &str, flags: &[&str]) -> Daemon {
        let file = self.write("tokens", tokens);
        Setup::default().flags(&["--token-file", &file]).flags(flags).start()
    }

    /// A new key pair in PEM, made by OpenSSL: its private and its public part.
    fn keys(&self, name: &str, options: &[&str]) -> (String, String) {
        let [private, public] = ["private", "public"].map(|part| self.path(&format!("{name}-{part}.pem")));
        let [private, public] = [&private, &public].map(|path| path.to_str().expect("UTF-8"));
        openssl(&[&["genpkey", "-quiet", "-out", private], options].concat());
        openssl(&["pkey", "-in", private, "-pubout", "-out", public]);
        (private.to_owned(), public.to_owned())
    }
}

fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = luxcast();
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    command.output().expect("the program can be started")
}

fn with_token(daemon: &Daemon, path: &str, token: &str) -> Client {
    try_token(daemon, path, token).unwrap_or_else(|refusal| panic!("{path}: {refusal}"))
}

/// The client, or status and word of the refusal.
fn try_token(daemon: &Daemon, path: &str, token: &str) -> Result<Client, String> {
    let fields: &[(&str, &str)] = &[("authorization", &format!("Bearer {token}"))];
    let fields = if token.is_empty() { &[][..] } else { fields };
    Client::try_connect_with(daemon.address, path, fields)
        .map_err(|refused| format!("{} {}", refused.status, refused.code()))
}

/// `101`, or status and word of the refusal.
fn verdict(daemon: &Daemon, path: &str, token: &str) -> String {
    try_token(daemon, path, token).map_or_else(|refusal| refusal, |_| "101".to_owned())
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn forged(header: &str, claims: &str, signature: &[u8]) -> String {
    [header.as_bytes(), claims.as_bytes(), signature].map(|part| BASE64URL_NOPAD.encode(part)).join(".")
}

fn forged_with_secret(header: &str, claims: &str, secret: &[u8]) -> String {
    let message = [header, claims].map(|part| BASE64URL_NOPAD.encode(part.as_bytes())).join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = BASE64URL_NOPAD.encode(ring::hmac::sign(&key, message.as_bytes()).as_ref());
    format!("{message}.{signature}")
}

#[test]
fn each_endpoint_asks_for_its_scope() {
    let files = Files::new();
    let daemon = files.daemon(
        "j jobs=a,b*\nf flows=f*\njd jobs=a debug\nd debug\nevery all\nboth all debug\nboss admin\nnothing\n",
        &[],
    );
    let paths = [
        "/api/ws/jobs/a/monitor",
        "/api/v1/ws/jobs/bb/monitor",
        "/api/ws/jobs/c/monitor",
        "/api/ws/jobs/a/debug",
        "/api/v1/ws/jobs/c/debug",
        "/api/ws/flows/ff/monitor",
        "/api/v1/ws/flows/g/monitor",
        EVENTS,
        MANY,
        "/api/v1/ws",
    ];
    let table = [
        ("j", [1, 1, 0, 0, 0, 0, 0, 0, 1, 1]),
        ("f", [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]),
        ("jd", [1, 0, 0, 1, 0, 0, 0, 0, 1, 1]),
        ("d", [0; 10]),
        ("every", [1, 1, 1, 0, 0, 1, 1, 1, 1, 1]),
        ("both", [1; 10]),
        ("boss", [0; 10]),
        ("nothing", [0; 10]),
    ];
    for (token, row) in table {
        for (path, allowed) in paths.into_iter().zip(row) {
            let expected = if allowed == 1 { "101" } else { "403 forbidden_scope" };
            assert_eq!(verdict(&daemon, path, token), expected, "{token} at {path}");
        }
    }
    for token in ["", "J", "jj", "nobody"] {
        for path in paths {
            assert_eq!(verdict(&daemon, path, token), "401 unauthorized", "{token:?} at {path}");
        }
    }
}

#[test]
fn a_client_without_rights_learns_nothing_about_ids() {
    let files = Files::new();
    let daemon = files.daemon("j jobs=a\nf flows=f\n", &["--topics-max", "1"]);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"known"}"#]);
    let answer = |path: &str, token: &str| {
        let fields = if token.is_empty() { String::new() } else { format!("X-API-Key: {token}\r\n") };
        let request = Raw::upgrade_request(path).replacen("\r\n", &format!("\r\n{fields}"), 1);
        let refused = daemon.raw().request(&request);
        let mut fields = refused.headers;
        fields.retain(|(name, _)| name != "date");
        (refused.status, refused.body, fields)
    };
    for token in ["", "wrong", "f"] {
        let known = answer("/api/ws/jobs/known/monitor", token);
        assert_eq!(known.0, if token == "f" { 403 } else { 401 });
        // RFC 6750, 3 and 3.1.
        let challenge = match token {
            "" => "Bearer realm=\"luxcast\"",
            "wrong" => "Bearer realm=\"luxcast\", error=\"invalid_token\"",
            _ => "Bearer realm=\"luxcast\", error=\"insufficient_scope\"",
        };
        assert!(known.2.contains(&("www-authenticate".to_owned(), challenge.to_owned())), "{:?}", known.2);
        for id in ["unknown", "%", "a%20b", &"x".repeat(200)] {
            for query in ["", "?since=nonsense", "?events=,"] {
                let path = format!("/api/ws/jobs/{id}/monitor{query}");
                assert_eq!(answer(&path, token), known, "{path} with {token:?}");
            }
        }
    }
    assert_eq!(answer("/api/ws/jobs/%/monitor", "j").0, 400);
    assert_eq!(answer("/api/ws/jobs/known/monitor", "j").0, 403);
    // Path and method are public, and so is the daemon's health.
    assert_eq!(daemon.raw().request("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
    assert_eq!(daemon.raw().request(&format!("PUT {EVENTS} HTTP/1.1\r\nHost: a\r\n\r\n")).status, 405);
    assert_eq!(daemon.raw().request("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}

#[test]
fn a_token_is_sent_in_one_of_four_ways() {
    let files = Files::new();
    let daemon = files.daemon("to+ken/1= all\nother all\n", &[]);
    let connect = |path: &str, fields: &[(&str, &str)]| {
        let client = Client::try_connect_with(daemon.address, path, fields);
        client.map_or_else(|refused| refused.code(), |_| "101".to_owned())
    };
    let at = |query: &str| format!("{EVENTS}{query}");
    assert_eq!(connect(&at("?token=to+ken/1="), &[]), "101");
    assert_eq!(connect(&at("?since=now&api_key=to%2Bken%2F1%3D"), &[]), "101");
    assert_eq!(connect(EVENTS, &[("authorization", "bearer to+ken/1=")]), "101");
    assert_eq!(connect(EVENTS, &[("X-Api-Key", "to+ken/1=")]), "101");
    assert_eq!(connect(&at("?token="), &[("X-Api-Key", "to+ken/1=")]), "101", "empty is absent");
    assert_eq!(connect(&at("?token=other"), &[("authorization", "Basic b3RoZXI6")]), "101");
    assert_eq!(connect(EVENTS, &[("authorization", "Basic to+ken/1=")]), "unauthorized");
    assert_eq!(connect(EVENTS, &[("cookie", "token=other")]), "unauthorized");
    assert_eq!(connect(&at("?token=to%20ken/1="), &[]), "unauthorized");
    // Two tokens are one too many, even if they are equal.
    assert_eq!(connect(&at("?token=other&api_key=other"), &[]), "bad_request");
    assert_eq!(connect(&at("?token=other"), &[("X-Api-Key", "other")]), "bad_request");
    assert_eq!(connect(EVENTS, &[("X-Api-Key", "other"), ("authorization", "Bearer other")]), "bad_request");
    assert_eq!(connect(&at("?token=other&token=other"), &[]), "bad_parameter");
    assert_eq!(connect(&at("?token=%other"), &[]), "bad_parameter");
}

#[test]
fn a_hashed_token_opens_and_its_hash_does_not() {
    let made = run(&["token", "--jobs", "a,b*", "--debug", "--sha256"], &[]);
    let [line, told] = [made.stdout, made.stderr].map(|text| String::from_utf8(text).unwrap());
    let (line, token) = (line.trim_end(), told.split_whitespace().last().expect("the token"));
    assert!(line.starts_with("sha256:") && line.ends_with(" jobs=a,b* debug"), "{line}");
    let files = Files::new();
    let daemon = files.daemon(&format!("# hashed\n\n{line} # somebody\r\n"), &[]);
    assert_eq!(verdict(&daemon, "/api/ws/jobs/bb/debug", token), "101");
    assert_eq!(verdict(&daemon, "/api/ws/jobs/c/debug", token), "403 forbidden_scope");
    let hash = line.split(' ').next().unwrap();
    for wrong in [hash, hash.strip_prefix("sha256:").unwrap(), &token[1..], &token.to_uppercase()] {
        assert_eq!(verdict(&daemon, "/api/ws/jobs/bb/debug", wrong), "401 unauthorized");
    }
}

#[test]
fn what_the_program_prints_is_a_token_file() {
    let files = Files::new();
    let made = [&["token", "--all"][..], &["token", "--jobs", "a", "--sha256"]].map(|words| run(words, &[]));
    let text = made.map(|made| String::from_utf8(made.stdout).unwrap()).concat();
    assert_eq!(text.lines().count(), 2, "{text}");
    let daemon = files.daemon(&text, &[]);
    let token = text.split(' ').next().expect("the token");
    assert_eq!(verdict(&daemon, EVENTS, token), "101");
    // Lines added with `>>`: a reload reports what was added and removed, but no token.
    let more = run(&["token", "--flows", "f"], &[]);
    let all = text.replace(" all\n", " all debug\n") + &String::from_utf8(more.stdout).unwrap();
    files.write("tokens", &all);
    let log = daemon.reload();
    assert!(log.contains("read again: token_file (3 tokens: 2 new or changed, 1 gone or changed)"), "{log}");
    assert!(!log.contains(token), "{log}");
    assert!(daemon.reload().contains("read again: token_file (the same 3 tokens)"));
}

#[test]
fn a_signed_token_with_a_claim_of_a_wrong_type_does_not_open() {
    let files = Files::new();
    let secret = "a secret of thirty-two bytes at least";
    let file = files.write("secret", secret);
    let daemon = Setup::default().flags(&["--jwt-key-file", &file, "--jwt-algorithm", "HS256"]).start();
    let judge = |header: &str, claims: &str| {
        verdict(&daemon, EVENTS, &forged_with_secret(header, claims, secret.as_bytes()))
    };
    let header = r#"{"alg":"HS256"}"#;
    assert_eq!(judge(header, r#"{"all":true,"iss":"me","iat":1,"aud":"luxcast","other":null}"#), "101");
    for claim in ["exp", "nbf", "iat", "aud", "iss", "sub", "jti", "jobs", "flows", "debug", "admin"] {
        for value in ["null", "{}", "[[]]"] {
            let claims = format!("{{\"all\":true,\"{claim}\":{value}}}");
            assert_eq!(judge(header, &claims), "401 unauthorized", "{claims}");
        }
    }
    for crit in ["null", "[]", "[\"b64\"]", "\"\"", "0"] {
        let header = format!("{{\"alg\":\"HS256\",\"crit\":{crit}}}");
        assert_eq!(judge(&header, r#"{"all":true}"#), "401 unauthorized", "{header}");
    }
}

#[test]
fn jwts_of_each_algorithm_allow_what_they_claim() {
    let files = Files::new();
    let secret = files.write("secret", "a secret of thirty-two bytes at least\n");
    let rsa = files.keys("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let ec = files.keys("ec", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let ed = files.keys("ed", &["-algorithm", "ED25519"]);
    let all = [
        ("HS256", JwtAlgorithm::Hs256, (secret.clone(), secret)),
        ("RS256", JwtAlgorithm::Rs256, rsa),
        ("ES256", JwtAlgorithm::Es256, ec),
        ("EdDSA", JwtAlgorithm::EdDsa, ed),
    ];
    for (name, algorithm, (private, public)) in &all {
        let flags = ["--jwt-key-file", public, "--jwt-algorithm", name];
        let daemon = Setup::default().flags(&flags).start();
        let base = ["token", "--jwt", "--key", private, "--algorithm", name];
        let signed = run(&[&base[..], &["--jobs", "a*", "--flows=f", "--expires", "600"]].concat(), &[]);
        let token = String::from_utf8(signed.stdout).unwrap().trim().to_owned();
        assert_eq!(verdict(&daemon, "/api/ws/jobs/ab/monitor", &token), "101", "{name}");
        assert_eq!(verdict(&daemon, "/api/ws/flows/f/monitor", &token), "101", "{name}");
        for path in ["/api/ws/jobs/b/monitor", "/api/ws/jobs/ab/debug", "/api/ws/flows/g/monitor", EVENTS] {
            assert_eq!(verdict(&daemon, path, &token), "403 forbidden_scope", "{name} at {path}");
        }
        let at = |daemon: &Daemon, token: &str| verdict(daemon, "/api/ws/jobs/a/monitor", token);
        let key = fs::read(private).unwrap();
        let claims = |exp: i64, nbf: i64| {
            let from_now = |seconds: i64| Some(unix_seconds().saturating_add_signed(seconds).into());
            Claims { jobs: vec!["a".into()], exp: from_now(exp), nbf: from_now(nbf), ..Claims::default() }
        };
        let sign = |claims: Claims| sign(*algorithm, &key, &claims).unwrap();
        assert_eq!(at(&daemon, &sign(claims(600, -1))), "101", "{name}");
        assert_eq!(at(&daemon, &sign(claims(-1, -600))), "401 unauthorized", "{name}: expired");
        assert_eq!(at(&daemon, &sign(claims(600, 60))), "401 unauthorized", "{name}: not yet valid");
        // Tampered with: claims, signature, header, and the signature of another token.
        let parts: Vec<&str> = token.split('.').collect();
        let more = BASE64URL_NOPAD.encode(br#"{"jobs":["*"],"all":true}"#);
        let other = sign(claims(600, 0));
        let none = BASE64URL_NOPAD.encode(br#"{"alg":"none"}"#);
        for wrong in [
            format!("{}.{more}.{}", parts[0], parts[2]),
            format!("{}.{}.{}", parts[0], parts[1], other.rsplit('.').next().unwrap()),
            format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]),
            format!("{}.{}.", parts[0], parts[1]),
            format!("{none}.{}.", parts[1]),
            format!("{none}.{}.{}", parts[1], parts[2]),
            forged(r#"{"alg":"none","typ":"JWT"}"#, r#"{"all":true}"#, b""),
            // The public key as if it were a secret.
            forged_with_secret(r#"{"alg":"HS256"}"#, r#"{"all":true}"#, &fs::read(public).unwrap()),
            forged_with_secret(r#"{"alg":"HS256"}"#, r#"{"all":true}"#, b""),
        ] {
            assert_eq!(at(&daemon, &wrong), "401 unauthorized", "{name}: {wrong}");
        }
        // Signed by another algorithm, with a good key of that one.
        for (_, other, (private, _)) in all.iter().filter(|row| row.0 != *name) {
            let key = fs::read(private).unwrap();
            let token = luxcast::access::jwt::sign(*other, &key, &claims(600, 0)).unwrap();
            assert_eq!(at(&daemon, &token), "401 unauthorized", "{name}: signed with {other:?}");
        }
    }
}

#[test]
fn a_connection_ends_when_its_token_expires_and_not_before() {
    let files = Files::new();
    let secret = files.write("secret", "a secret of thirty-two bytes at least");
    let flags = ["--jwt-key-file", &secret, "--jwt-algorithm", "HS256"];
    let daemon = Setup::default().flags(&flags).start();
    let mut feed = daemon.acked_feed();
    let token = |exp: Option<u64>| {
        let claims = Claims { all: true, exp: exp.map(Into::into), ..Claims::default() };
        sign(JwtAlgorithm::Hs256, &fs::read(&secret).unwrap(), &claims).unwrap()
    };
    let exp = unix_seconds() + 3;
    // The heartbeat of 30 s does not end it.
    let mut ends = with_token(&daemon, EVENTS, &token(Some(exp)));
    let mut many = with_token(&daemon, MANY, &token(Some(exp)));
    let mut stays = with_token(&daemon, EVENTS, &token(None));
    let mut later = with_token(&daemon, EVENTS, &token(Some(exp + 3_000)));
    feed.publish([r#"{"type":"x","job_id":"j","n":1}"#]);
    for client in [&mut ends, &mut stays, &mut later] {
        assert!(client.event().ends_with(r#""n":1}"#));
    }
    for client in [&mut ends, &mut many] {
        let (_, close) = client.until_close();
        let close = close.expect("a close frame");
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "the token has expired"));
        assert!(unix_seconds() >= exp, "too early");
    }
    assert_eq!(verdict(&daemon, EVENTS, &token(Some(exp))), "401 unauthorized");
    feed.publish([r#"{"type":"x","job_id":"j","n":2}"#]);
    for client in [&mut stays, &mut later] {
        assert!(client.event().ends_with(r#""n":2}"#));
    }
}

#[test]
fn a_short_heartbeat_does_not_hide_the_expiry() {
    let files = Files::new();
    let secret = files.write("secret", "a secret of thirty-two bytes at least");
    let flags = ["--jwt-key-file", &secret, "--jwt-algorithm", "HS256", "--heartbeat-seconds", "0.1"];
    let daemon = Setup::default().flags(&flags).start();
    let exp = unix_seconds() + 2;
    let claims = Claims { all: true, exp: Some(exp.into()), ..Claims::default() };
    let token = sign(JwtAlgorithm::Hs256, &fs::read(&secret).unwrap(), &claims).unwrap();
    let mut client = with_token(&daemon, EVENTS, &token);
    let (texts, close) = client.until_close();
    assert_eq!(u16::from(close.expect("a close frame").code), 1008);
    assert!(unix_seconds() >= exp);
    assert!(texts.iter().any(|text| text.contains(r#""type":"ping""#)), "heartbeats came before: {texts:?}");
}

#[test]
fn a_reload_ends_the_connections_of_tokens_that_are_gone_or_changed() {
    let files = Files::new();
    let daemon = files.daemon("stays jobs=a\ngoes all\nshrinks all debug\n", &["--shards", "2"]);
    let mut feed = daemon.acked_feed();
    let path = "/api/ws/jobs/a/monitor";
    let mut stays: Vec<Client> = (0..4).map(|_| with_token(&daemon, path, "stays")).collect();
    let mut go: Vec<Client> = (0..4).map(|_| with_token(&daemon, path, "goes")).collect();
    go.push(with_token(&daemon, MANY, "goes"));
    go.push(with_token(&daemon, "/api/ws/jobs/a/debug", "shrinks"));
    // All or nothing: a faulty file changes nothing, and its fault is named.
    let file = files.path("tokens").display().to_string();
    for (text, fault) in
        [("stays jobs=a\nsecret al\n", ":2: "), ("", ": has no token"), ("# all\n", ": has no token")]
    {
        files.write("tokens", text);
        let log = daemon.reload();
        assert!(log.contains("nothing was reloaded") && log.contains(&format!("{file}{fault}")), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
    feed.publish([r#"{"type":"job_x","job_id":"a","n":1}"#]);
    for client in stays.iter_mut().chain(go.iter_mut().take(4)) {
        assert!(client.event().ends_with(r#""n":1}"#));
    }
    assert_eq!(verdict(&daemon, path, "goes"), "101");

    files.write("tokens", "shrinks all\n# moved\nstays jobs=a\nnew all\n");
    assert!(daemon.reload().contains("reloaded"));
    for client in &mut go {
        let close = client.until_close().1.expect("a close frame");
        assert_eq!((u16::from(close.code), close.reason.as_str()), (1008, "the token is not valid any more"));
    }
    assert_eq!(verdict(&daemon, path, "goes"), "401 unauthorized");
    assert_eq!(verdict(&daemon, path, "shrinks"), "101");
    assert_eq!(verdict(&daemon, EVENTS, "new"), "101");
    feed.publish([r#"{"type":"x","job_id":"a","n":2}"#]);
    for client in &mut stays {
        assert!(client.event().ends_with(r#""n":2}"#), "the others notice nothing");
    }
}

#[test]
fn a_reload_can_begin_to_ask_for_tokens_and_change_the_key() {
    let files = Files::new();
    let tokens = files.write("tokens", "one all\n");
    let secret = files.write("secret", "a secret of thirty-two bytes at least");
    let settings = files.write("luxcast.toml", "");
    let daemon = Setup::default().flags(&["--config", &settings]).start();
    let mut anonymous = daemon.watch(EVENTS);
    anonymous.connected();
    let jwt = format!("token_file = {tokens:?}\njwt_key_file = {secret:?}\njwt_algorithm = \"HS256\"\n");
    files.write("luxcast.toml", &jwt);
    let log = daemon.reload();
    assert!(log.contains("changed: token_file, jwt_key_file, jwt_algorithm"), "{log}");
    assert_eq!(anonymous.close_code(), 1008);
    assert_eq!(verdict(&daemon, EVENTS, ""), "401 unauthorized");

    let claims = Claims { all: true, ..Claims::default() };
    let token = sign(JwtAlgorithm::Hs256, &fs::read(&secret).unwrap(), &claims).unwrap();
    let mut signed = with_token(&daemon, EVENTS, &token);
    let mut listed = with_token(&daemon, EVENTS, "one");
    assert!(daemon.reload().contains("token_file (the same 1 tokens), jwt_key_file (the same key)"));
    files.write("secret", "another secret of thirty-two bytes and more");
    assert!(daemon.reload().contains("jwt_key_file (another key)"));
    assert_eq!(signed.close_code(), 1008);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"a"}"#]);
    listed.event();
}

/// The types of the events before the one called `end`.
fn kinds_until_end(client: &mut Client) -> Vec<String> {
    let mut kinds = Vec::new();
    loop {
        let event: Value = serde_json::from_str(&client.event()).unwrap();
        let kind = event["type"].as_str().unwrap().to_owned();
        if kind == "end" {
            return kinds;
        }
        kinds.push(kind);
    }
}

#[test]
fn without_debug_no_endpoint_delivers_breakpoints() {
    let files = Files::new();
    let daemon = files.daemon("plain all\nbug all debug\n", &[]);
    let mut feed = daemon.acked_feed();
    let start = r#"{"type":"job_started","job_id":"a","flow_id":"f"}"#;
    let hit = r#"{"type":"breakpoint_hit","job_id":"a","data":{"variables":{"password":"hunter2"}}}"#;
    feed.publish([start, hit, r#"{"type":"breakpoint_resumed","job_id":"a"}"#]);
    let open = |token: &str| {
        let paths = ["/api/ws/jobs/a/monitor", "/api/ws/flows/f/monitor", EVENTS];
        let mut clients: Vec<Client> =
            paths.iter().map(|path| with_token(&daemon, &format!("{path}?since=start"), token)).collect();
        let mut many = with_token(&daemon, MANY, token);
        let answer = many.ask(r#"{"type":"subscribe","job_id":"a","since":"start"}"#);
        assert!(matches!(answer["type"].as_str(), Some("connected" | "subscribed")), "{answer}");
        clients.push(many);
        // A filter cannot restore what the token does not allow.
        for action in [
            r#"{"action":"unsubscribe","events":["metrics"]}"#,
            r#"{"action":"subscribe","events":["breakpoint_hit","breakpoint_new","x","end"]}"#,
            r#"{"action":"subscribe_all"}"#,
        ] {
            let listed = format!("{}?events=breakpoint_hit,breakpoint_new,x,end", paths[0]);
            let mut client = with_token(&daemon, &listed, token);
            client.send(action);
            client.json_of("subscription:confirmed");
            clients.push(client);
        }
        clients
    };
    let (mut plain, mut bug) = (open("plain"), open("bug"));
    // A type not seen before, while clients watch.
    let inner = r#"{"type":"execution_event","job_id":"a","event":{"event_type":"breakpoint_inner"}}"#;
    let new = r#"{"type":"breakpoint_new","job_id":"a","flow_id":"f"}"#;
    feed.publish([r#"{"type":"x","job_id":"a"}"#, hit, new, inner, r#"{"type":"end","job_id":"a"}"#]);
    for (place, client) in plain.iter_mut().enumerate() {
        let kinds = kinds_until_end(client);
        let expected: &[&str] = if place < 4 { &["job_started", "x"] } else { &["x"] };
        assert_eq!(kinds, expected, "client {place}");
    }
    for (place, client) in bug.iter_mut().enumerate() {
        let kinds = kinds_until_end(client);
        let past: &[&str] = &["job_started", "breakpoint_hit", "breakpoint_resumed"];
        let live: &[&str] = match place {
            5 => &["x", "breakpoint_hit", "breakpoint_new"],
            _ => &["x", "breakpoint_hit", "breakpoint_new", "execution_event"],
        };
        let live = if place == 4 { &live[..3] } else { live };
        let expected = if place < 4 { [past, live].concat() } else { live.to_vec() };
        assert_eq!(kinds, expected, "client {place}");
    }
    let filters: Vec<Value> = daemon.connections().into_iter().map(|row| row["filter"].clone()).collect();
    assert!(filters.contains(&json!("all -breakpoint_*")) && filters.contains(&json!("all")), "{filters:?}");
}

#[test]
fn what_was_lost_is_counted_without_hidden_breakpoints() {
    let files = Files::new();
    let daemon = files.daemon("plain all\nbug all debug\n", &["--history-bytes", "65536"]);
    let mut feed = daemon.acked_feed();
    let pad = "p".repeat(200);
    for number in 0..1_000 {
        let kind = if number % 2 == 0 { "breakpoint_hit" } else { "x" };
        feed.publish([format!(r#"{{"type":"{kind}","job_id":"a","n":{number},"pad":"{pad}"}}"#).as_str()]);
    }
    feed.publish([r#"{"type":"end","job_id":"a"}"#]);
    let counted = |token: &str, path: &str| {
        let mut client = with_token(&daemon, &format!("{path}?since=start"), token);
        let gap = client.json_of("stream:gap");
        let mut left = Vec::new();
        loop {
            let event: Value = serde_json::from_str(&client.event()).unwrap();
            if event["type"] == "end" {
                return (gap, left);
            }
            left.push(event);
        }
    };
    let path = "/api/ws/jobs/a/monitor";
    let (gap, left) = counted("bug", path);
    assert_eq!(gap["missed"].as_u64().unwrap() + left.len() as u64, 1_000);
    let (gap, left) = counted("plain", path);
    assert!(left.iter().all(|event| event["type"] == "x"));
    // From the start of a job, losses are known by type.
    assert_eq!(gap["missed"].as_u64().unwrap() + left.len() as u64, 500);
    let to = gap["to"].as_u64().unwrap();
    assert!(to < left[0]["stream_seq"].as_u64().unwrap());
    // From the middle, only the total of losses is known.
    let middle = format!("{path}?since={}", to - 10);
    let gap = with_token(&daemon, &middle, "plain").json_of("stream:gap");
    assert_eq!(gap["missed"], Value::Null, "{gap}");
}

#[test]
fn on_the_multi_job_endpoint_each_job_is_asked_for() {
    let files = Files::new();
    let daemon = files.daemon("j jobs=a,b*\n", &[]);
    let mut feed = daemon.acked_feed();
    let mut client = with_token(&daemon, MANY, "j");
    assert_eq!(client.json()["type"], "connected");
    for job in ["a", "b1"] {
        let answer = client.ask(&format!(r#"{{"type":"subscribe","job_id":"{job}"}}"#));
        assert_eq!(answer["type"], "subscribed", "{answer}");
    }
    // Pages subscribe to everything that they know: that is not abuse, however often.
    for number in 0..40 {
        let job = format!("c{number}");
        let answer = client.ask(&format!(r#"{{"type":"subscribe","job_id":"{job}","since":"start"}}"#));
        assert_eq!(
            (&answer["type"], &answer["code"], &answer["job_id"]),
            (&json!("error"), &json!("forbidden"), &json!(job))
        );
    }
    let answer = client.ask(r#"{"type":"subscribe","job_id":"a b"}"#);
    assert_eq!(answer["code"], "bad_job_id");
    assert_eq!(client.ask(r#"{"type":"unsubscribe","job_id":"c1"}"#)["type"], "not_subscribed");
    feed.publish([
        r#"{"type":"x","job_id":"c1","n":1}"#,
        r#"{"type":"breakpoint_hit","job_id":"a","n":2}"#,
        r#"{"type":"x","job_id":"b1","n":3}"#,
    ]);
    assert_eq!(client.json()["n"], 3);
}

#[test]
fn the_admin_listener_beyond_loopback_asks_for_admin() {
    let files = Files::new();
    let tokens = "boss admin\nevery all debug\n";
    let status = |daemon: &Daemon, path: &str, token: &str| {
        let mut raw = Raw::connect(daemon.admin.expect("it is on"));
        let fields =
            if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
        raw.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n")).status
    };
    // As on a machine with other addresses, reached over the one that tests may use.
    let open = files.daemon(tokens, &["--admin", "0.0.0.0:0"]);
    for (token, expected) in [("", 401), ("wrong", 401), ("every", 403), ("boss", 200)] {
        assert_eq!(status(&open, "/connections", token), expected, "{token}");
        assert_eq!(status(&open, "/connections?sort=x", token), if token == "boss" { 400 } else { expected });
        for public in ["/healthz", "/readyz"] {
            assert_eq!(status(&open, public, token), 200, "{public}");
        }
        assert_eq!(status(&open, "/nowhere", token), 404);
    }
    files.write("tokens", "every admin\n");
    assert!(open.reload().contains("reloaded"));
    assert_eq!((status(&open, "/connections", "boss"), status(&open, "/connections", "every")), (401, 200));
    let local = files.daemon(tokens, &[]);
    assert_eq!(status(&local, "/connections", ""), 200, "on loopback nobody is asked");
}

#[test]
fn readiness_ends_when_the_drain_begins() {
    let mut daemon = Daemon::start(&["--drain-seconds", "60"]);
    assert_eq!(daemon.admin_get("/readyz"), (200, "ready\n".to_owned()));
    // Its connection stays until it has read the goodbye.
    let mut watcher = daemon.watch(EVENTS);
    watcher.connected();
    daemon.terminate();
    wait_until("the daemon drains", || daemon.admin_get("/readyz").0 == 503);
    assert_eq!(daemon.admin_get("/healthz").0, 200);
    assert_eq!(watcher.close_code(), 1012);
    drop(watcher);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn a_reachable_daemon_needs_tokens_or_an_explicit_permission() {
    let files = Files::new();
    let tokens = files.write("tokens", "secret-word all\n");
    let short = files.write("short", "secret-word\n");
    let rsa = files.keys("rsa", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let small = files.keys("small", &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"]);
    let p384 = files.keys("p384", &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let bad = files.write("bad", "# fine\nsecret-word everything\n");
    let twice = files.write("twice", "secret-word all\n\nsecret-word all\n");
    let swapped = files.write("swapped", "all secret-word\n");
    let binary = files.write("binary", b"fine all\nsecret-word\xff all\n");
    let ingest = files.path("s").display().to_string();
    let jwt = |file: &str, algorithm: &str| {
        ["--jwt-key-file", file, "--jwt-algorithm", algorithm].map(str::to_owned).to_vec()
    };
    let table = [
        (
            vec!["--listen".to_owned(), "0.0.0.0:0".to_owned()],
            "--listen: 0.0.0.0:0 can be reached".to_owned(),
        ),
        (
            ["--listen", "127.0.0.1:0", "--listen", "[::]:0"].map(str::to_owned).to_vec(),
            "--listen: [::]:0".into(),
        ),
        (["--admin", "0.0.0.0:0"].map(str::to_owned).to_vec(), "--admin: 0.0.0.0:0 can be reached".into()),
        (
            ["--token-file", &tokens, "--allow-anonymous"].map(str::to_owned).to_vec(),
            "--allow-anonymous: ".into(),
        ),
        (vec!["--token-file".into(), bad.clone()], format!("{bad}:2: a word after the token")),
        (vec!["--token-file".into(), twice.clone()], format!("{twice}:3: the same token as on line 1")),
        (vec!["--token-file".into(), swapped.clone()], format!("{swapped}:1: a line begins with the token")),
        (vec!["--token-file".into(), binary.clone()], format!("{binary}:2: is not UTF-8")),
        (vec!["--token-file".into(), "/no/such".into()], "token_file: cannot read /no/such".into()),
        (vec!["--jwt-key-file".into(), tokens.clone()], "--jwt-key-file: also needs jwt_algorithm".into()),
        (jwt(&short, "HS256"), format!("{short}: HS256 needs a secret of at least 32 bytes")),
        (jwt(&rsa.1, "HS256"), format!("{}: HS256 needs a secret, but this is a PEM file", rsa.1)),
        (jwt(&rsa.0, "RS256"), format!("{}: this is not the public part", rsa.0)),
        (jwt(&small.1, "RS256"), format!("{}: this is not the public part", small.1)),
        (jwt(&rsa.1, "EdDSA"), format!("{}: this is not the public part", rsa.1)),
        (jwt(&p384.1, "ES256"), format!("{}: this is not the public part", p384.1)),
        (jwt("/no/such", "ES256"), "jwt_key_file: cannot read /no/such".into()),
    ];
    for (flags, expected) in table {
        for command in ["serve", "check-config"] {
            let flags = flags.iter().map(String::as_str);
            let arguments: Vec<&str> = [command, "--ingest", &ingest].into_iter().chain(flags).collect();
            let output = run(&arguments, &[]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
            assert!(error.contains(&expected), "{arguments:?}: {error}");
            assert!(!error.contains("secret-word") && output.stdout.is_empty(), "{arguments:?}: {error}");
        }
    }
    assert!(!Path::new(&ingest).exists(), "nothing is left behind");
    let daemon = files.daemon("secret-word all\n", &["--listen", "0.0.0.0:0"]);
    assert_eq!(verdict(&daemon, EVENTS, "secret-word"), "101");
    assert_eq!(verdict(&daemon, EVENTS, ""), "401 unauthorized");
}

#[test]
fn a_check_of_the_settings_warns_of_a_token_file_that_everybody_can_read() {
    let files = Files::new();
    let tokens = files.write("tokens", "secret-word all\n");
    for (mode, warning) in [
        (0o644, format!("luxcast: warning: {tokens}: everybody on this machine may use it (mode 0644)\n")),
        (0o640, String::new()),
    ] {
        fs::set_permissions(&tokens, fs::Permissions::from_mode(mode)).expect("the file is ours");
        let ingest = files.path("ingest.sock").display().to_string();
        let output = run(&["check-config", "--token-file", &tokens, "--ingest", &ingest], &[]);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), warning);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains(&tokens));
    }
}

#[test]
fn tail_shows_its_token_only_to_the_daemon() {
    let files = Files::new();
    let daemon = files.daemon("secret-word jobs=a\n", &[]);
    daemon.acked_feed().publish([r#"{"type":"x","job_id":"a"}"#]);
    let url = format!("ws://{}", daemon.address);
    let base = ["tail", "--json", "--url", &url];
    // Without the event it would run for ever.
    let tail = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = luxcast();
        command.args(base).args(arguments).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program can be started");
        let mut line = String::new();
        let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped"));
        std::io::BufRead::read_line(&mut lines, &mut line).expect("text");
        let _ = child.kill();
        let output = child.wait_with_output().expect("it has ended");
        (line, String::from_utf8(output.stderr).unwrap())
    };
    let job = ["--job", "a", "--since", "start"];
    for (arguments, variables) in [
        ([&job[..], &["--token", "secret-word"]].concat(), vec![]),
        (job.to_vec(), vec![("LUXCAST_TOKEN", "secret-word")]),
        ([&job[..], &["--token", "secret-word"]].concat(), vec![("LUXCAST_TOKEN", "wrong")]),
    ] {
        let (line, errors) = tail(&arguments, &variables);
        assert!(seq_of(&line).is_some(), "{arguments:?}: {errors}");
        assert!(!errors.contains("secret-word"));
    }
    for (arguments, variables, expected) in [
        (job.to_vec(), vec![], "refused: 401 unauthorized"),
        ([&job[..], &["--token", "secret-wrong"]].concat(), vec![], "refused: 401 unauthorized"),
        (
            vec!["--token", "secret-word"],
            vec![],
            "403 forbidden_scope: the token does not allow this: it needs the scope all",
        ),
        (vec![], vec![("LUXCAST_TOKEN", "secret wörd")], "a character that no token may have"),
    ] {
        let (line, errors) = tail(&arguments, &variables);
        assert!(line.is_empty() && errors.contains(expected), "{arguments:?}: {line} {errors}");
        assert!(!errors.contains("secret"), "{errors}");
    }
}

/// Everything with a token that can be refused or fail, at each level of the log.
#[test]
fn no_token_is_ever_shown() {
    let files = Files::new();
    let secret = files.write("secret", "secret-key of thirty-two bytes at least");
    for level in ["trace", "debug", "info"] {
        let flags = ["--log-level", level, "--heartbeat-seconds", "0.2", "--silent-heartbeats", "1000"];
        let flags = [&flags[..], &["--admin", "0.0.0.0:0"]].concat();
        let jwt = ["--jwt-key-file", &secret, "--jwt-algorithm", "HS256"];
        let daemon =
            files.daemon("secret-good jobs=a\nsecret-gone all admin\n", &[&flags[..], &jwt].concat());
        let mut shown = String::new();
        let claims = |exp: u64| Claims { all: true, exp: Some(exp.into()), ..Claims::default() };
        let signed = |exp| sign(JwtAlgorithm::Hs256, &fs::read(&secret).unwrap(), &claims(exp)).unwrap();
        let expired = signed(1);
        let tokens = ["secret-good", "secret-gone", "secret-wrong", &expired, &forged("{}", "{}", b"secret")]
            .map(str::to_owned);
        for token in &tokens {
            for path in [
                "/api/ws/jobs/a/monitor",
                "/api/ws/jobs/%/debug",
                "/api/ws/jobs/b/monitor",
                EVENTS,
                MANY,
                "/x",
                "/healthz",
                &format!("/api/ws/jobs/{token}"),
                &format!("/api/ws/events&token={token}"),
                &format!("/api/ws/events%3Ftoken={token}"),
            ] {
                for request in [
                    Raw::upgrade_request(&format!("{path}?since=x&token={token}")),
                    Raw::upgrade_request(&format!("{path}?token={token}&api_key={token}")),
                    Raw::upgrade_request(&format!("{path}?token={token}%")),
                    Raw::upgrade_request(path).replacen(
                        "\r\n",
                        &format!("\r\nAuthorization: Bearer {token}\r\nX-API-Key: {token}\r\n"),
                        1,
                    ),
                    format!(
                        "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
                    ),
                    format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {token}\u{1}\r\n\r\n"),
                    format!("POST {path}?api_key={token} HTTP/1.1\r\nHost: a\r\n\r\n"),
                    format!("GET {path}?token={token} HTTP/1.0\r\n\r\n"),
                    format!("GET {path}?token={token}#\r\n\r\n"),
                ] {
                    let mut raw = daemon.raw();
                    raw.send(request.as_bytes());
                    let head = raw.read_head();
                    if !head.starts_with("HTTP/1.1 101") {
                        raw.read_to_end();
                    }
                    shown.push_str(&head);
                    shown.push_str(&String::from_utf8_lossy(&raw.buffer));
                }
                let mut raw = Raw::connect(daemon.admin.expect("it is on"));
                let answer =
                    raw.request(&format!("GET {path}?token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
                shown.push_str(&answer.body);
            }
        }
        let expiring = signed(unix_seconds() + 3);
        let mut expires = with_token(&daemon, EVENTS, &expiring);
        // It keeps reading: after the end there would be nothing left to read.
        let expires = thread::spawn(move || expires.close_code());
        let mut gone = with_token(&daemon, "/api/ws/events?events=x", "secret-gone");
        let mut garbage = with_token(&daemon, "/api/ws/jobs/a/monitor", "secret-good");
        garbage.send(r#"{"action":"secret-"}"#);
        let admin = |path: &str| {
            let mut raw = Raw::connect(daemon.admin.expect("it is on"));
            raw.request(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-API-Key: secret-gone\r\n\r\n"))
                .body
        };
        shown.push_str(&["/connections", "/metrics", "/jobs", "/readyz"].map(admin).concat());
        assert_eq!(expires.join().expect("it is closed"), 1008);
        for text in ["secret-good jobs=a\nsecret-new wrong\n", "secret-good jobs=a\n"] {
            files.write("tokens", text);
            daemon.reload();
        }
        assert_eq!(gone.close_code(), 1008);
        shown.push_str(&daemon.stderr());
        shown.push_str(&daemon.stdout());
        let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
        for hidden in ["secret-".to_owned(), signature(&expiring), signature(&expired), expired] {
            let at = shown
                .find(&hidden)
                .map(|at| shown[at.saturating_sub(300)..].chars().take(600).collect::<String>());
            assert_eq!(at, None, "{level}");
        }
        assert!(
            shown.contains("unauthorized") && shown.contains("forbidden_scope"),
            "the refusals were seen"
        );
    }
}

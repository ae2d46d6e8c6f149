//! Asks the servers directly, past the daemons: what the stream has, who leads it, and what an operator can break.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use async_nats::client::Request;
use async_nats::{Client, ConnectOptions, HeaderMap};
use data_encoding::BASE64;
use futures_util::future::join_all;
use luxcast::bus::numbers::Epochs;
use luxcast::net::bus::stream_config;
use serde_json::{Value, json};

use crate::block_on;
use crate::harness::{PATIENCE, numbered};

const STREAM: &str = "LUXCAST";
const SUBJECT: &str = "luxcast.events";
/// The server gets so long for an answer before it is asked again.
const ANSWER: Duration = Duration::from_secs(2);
/// Messages that are asked for at a time.
const AT_ONCE: u64 = 256;

/// As `luxcast bus create` has it.
pub const USUAL_WINDOW: Duration = Duration::from_secs(120);

/// What watchers of everything must see: each event with its number in front, by number.
pub type Truth = BTreeMap<u64, String>;

pub struct Desk {
    urls: Vec<String>,
}

impl Desk {
    pub fn new(urls: Vec<String>) -> Self {
        Self { urls }
    }

    async fn client(&self) -> Option<Client> {
        let options = ConnectOptions::new().ignore_discovered_servers().request_timeout(Some(ANSWER));
        options.connection_timeout(ANSWER).connect(&self.urls).await.ok()
    }

    /// Asks once at `$JS.API.WHAT`. None: nobody answers.
    pub fn try_ask(&self, what: &str, payload: &str) -> Option<Value> {
        block_on(async { ask(&self.client().await?, what, payload).await })
    }

    /// Asks until the answer is no error.
    pub fn ask(&self, what: &str, payload: &str) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.try_ask(what, payload);
            if let Some(answer) = &answer
                && answer["error"].is_null()
            {
                return answer.clone();
            }
            assert!(Instant::now() < until, "{what}: {answer:?}");
        }
    }

    /// `WHAT.LUXCAST`
    pub fn ask_stream(&self, what: &str, payload: &str) -> Value {
        self.ask(&format!("{what}.{STREAM}"), payload)
    }

    pub fn info(&self) -> Value {
        self.ask_stream("STREAM.INFO", "")
    }

    /// The number of the first line of a message.
    pub fn number(&self, message: u64) -> u64 {
        let metadata = &self.info()["config"]["metadata"];
        let base = metadata["luxcast.base"].as_str().and_then(|base| base.parse::<u64>().ok());
        base.expect("luxcast made it") + message * 1_024
    }

    /// The name of the server that leads the stream, waiting until there is one.
    pub fn leader(&self) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.info()["cluster"]["leader"].as_str() {
                Some(name) if !name.is_empty() => return name.to_owned(),
                _ => assert!(Instant::now() < until, "nobody leads"),
            }
        }
    }

    /// Each consumer of the stream, and the server that has it.
    pub fn consumers(&self) -> Vec<(String, String)> {
        let answer = self.ask_stream("CONSUMER.LIST", "");
        let rows = answer["consumers"].as_array().expect("a list").iter().map(|row| {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            (text(&row["name"]), text(&row["cluster"]["leader"]))
        });
        rows.collect()
    }

    pub fn delete_message(&self, message: u64) {
        self.ask_stream("STREAM.MSG.DELETE", &json!({"seq": message}).to_string());
    }

    /// Publishes as any other program may, until the stream has it; returns the message's sequence.
    pub fn publish(&self, payload: &str) -> u64 {
        // So that the stream takes no second copy.
        let id = format!("desk-{:016x}", fastrand::u64(..));
        let until = Instant::now() + PATIENCE;
        loop {
            let ack = block_on(async {
                let headers = HeaderMap::from_iter([("Nats-Msg-Id".parse().ok()?, id.parse().ok()?)]);
                let request = Request::new().headers(headers).payload(payload.to_owned().into());
                let answer = self.client().await?.send_request(SUBJECT, request).await.ok()?;
                serde_json::from_slice::<Value>(&answer.payload).ok()
            });
            match ack.as_ref().and_then(|ack| ack["seq"].as_u64().filter(|_| ack["error"].is_null())) {
                Some(message) => return message,
                None => assert!(Instant::now() < until, "nobody takes a message: {ack:?}"),
            }
        }
    }

    /// Publishes many in order, where no server fails meanwhile; returns the sequence of the first. Nobody else publishes.
    pub fn publish_all(&self, payloads: impl IntoIterator<Item = String>) -> u64 {
        block_on(async {
            let client = self.client().await.expect("a server is there");
            let mut first = None;
            for payload in payloads {
                let answer = client.request(SUBJECT, payload.into()).await.expect("the server answers");
                let ack: Value = serde_json::from_slice(&answer.payload).expect("an answer is JSON");
                let message = ack["seq"].as_u64().unwrap_or_else(|| panic!("{ack}"));
                first = first.or(Some(message));
            }
            first.expect("there is something to publish")
        })
    }

    /// Makes the stream as `luxcast bus create` would, but so that an operator can remove from it. The server knows each id
    /// for `window`.
    pub fn create(&self, base: u64, window: Duration) {
        let config = json!({
            "name": STREAM,
            "subjects": [SUBJECT],
            "retention": "limits",
            "storage": "file",
            "num_replicas": 1,
            "duplicate_window": window.as_nanos() as u64,
            "metadata": {"luxcast.format": "1", "luxcast.base": base.to_string()},
        });
        self.ask_stream("STREAM.CREATE", &config.to_string());
    }

    /// Changes the stream's configuration.
    pub fn update(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.info()["config"].clone();
        change(&mut config);
        self.ask_stream("STREAM.UPDATE", &config.to_string());
    }

    /// All that the stream has now.
    pub fn truth(&self) -> Truth {
        let info = self.info();
        let numbers = stream_config::epochs(&info["config"]).expect("luxcast made it");
        let bound = |name: &str| info["state"][name].as_u64().expect("the server counts");
        let (first, last) = (bound("first_seq"), bound("last_seq"));
        let mut truth = Truth::new();
        let mut seen = HashSet::new();
        block_on(async {
            let client = self.client().await.expect("a server is there");
            for from in (first..=last).step_by(AT_ONCE as usize) {
                let messages = from..(from + AT_ONCE).min(last + 1);
                let payloads = join_all(messages.clone().map(|message| payload(&client, message))).await;
                for (message, payload) in messages.zip(payloads) {
                    add(&mut truth, &mut seen, &numbers, message, &payload.unwrap_or_default());
                }
            }
        });
        truth
    }
}

async fn ask(client: &Client, what: &str, payload: &str) -> Option<Value> {
    let answer = client.request(format!("$JS.API.{what}"), payload.to_owned().into()).await.ok()?;
    Some(serde_json::from_slice(&answer.payload).expect("an answer is JSON"))
}

/// None: the stream does not have it.
async fn payload(client: &Client, message: u64) -> Option<String> {
    let what = format!("STREAM.MSG.GET.{STREAM}");
    let until = Instant::now() + PATIENCE;
    let answer = loop {
        match ask(client, &what, &json!({"seq": message}).to_string()).await {
            Some(answer) => break answer,
            None => assert!(Instant::now() < until, "no message {message}"),
        }
    };
    let data =
        answer["message"].is_object().then(|| answer["message"]["data"].as_str().unwrap_or_default())?;
    let bytes = BASE64.decode(data.as_bytes()).expect("the server writes base64");
    Some(String::from_utf8(bytes).expect("tests publish text"))
}

/// Line `i` of message S is `base + S * 1024 + i`; empty ones do not count, nor does a first line with flows. What is no
/// event has a number that is nobody's. Tests publish no line twice on purpose: what comes again is a copy, and its number
/// is nobody's either.
fn add(truth: &mut Truth, seen: &mut HashSet<String>, numbers: &Epochs, message: u64, payload: &str) {
    let lines =
        payload.lines().filter(|line| !line.trim().is_empty() && !line.starts_with("{\"op\":\"flows\""));
    for (place, line) in lines.enumerate() {
        let number = numbers.number(message, place).expect("there are enough numbers");
        if line.starts_with("{\"type\":") && seen.insert(line.to_owned()) {
            truth.insert(number, numbered(line, number));
        }
    }
}

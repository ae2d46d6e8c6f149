//! What an operator does to the stream: look at it, make it, begin a new epoch, try what the daemon may do.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_nats::client::Request;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull as consumer};
use async_nats::jetstream::{self, Context};
use async_nats::{Client, Event, HeaderMap, ServerInfo};
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bus::chunk;
use crate::net::bus::alone::{self, From};
use crate::net::bus::connect::{BusConfig, connect_once};
use crate::net::bus::stream_info::{NO_STREAM, error_of};
use crate::net::bus::words::in_words;

/// For each answer of the server.
const ANSWER: Duration = Duration::from_secs(5);
/// The server removes a consumer that was left behind after so long.
const CONSUMER_LIFE: Duration = Duration::from_secs(5);

/// How the word begins that a server has not answered, nor complained.
pub const NO_ANSWER: &str = "no answer";
/// What servers say that do not find enough others.
pub const UNAVAILABLE: &str = "temporarily unavailable";

/// "expected stream does not match"
const OTHER_STREAM: u64 = 10_060;

/// A connection for a few questions.
pub struct Admin {
    client: Client,
    jetstream: Context,
    config: BusConfig,
    /// What the server complained of.
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Admin {
    /// # Errors
    /// What is wrong with a file of the settings, or why no server lets this in.
    pub async fn connect(config: BusConfig) -> io::Result<Self> {
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let heard = complaints.clone();
        let client = connect_once(&config, move |event| {
            if let Event::ServerError(error) = event {
                heard.lock().push(error.to_string());
            }
        })
        .await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        Ok(Self { client, jetstream, config, complaints })
    }

    /// Of the server that this is connected to.
    pub fn server_info(&self) -> ServerInfo {
        self.client.server_info()
    }

    /// `None`: there is no such stream.
    ///
    /// # Errors
    /// In words, why the server does not say.
    pub async fn info(&self) -> Result<Option<Value>, String> {
        let answer = self.ask("STREAM.INFO", &json!({})).await?;
        match error_of(&answer) {
            Some((NO_STREAM, _)) => Ok(None),
            Some((_, words)) => Err(words),
            None => Ok(Some(answer)),
        }
    }

    /// Makes the stream; returns what [`Admin::info`] says of it then.
    ///
    /// # Errors
    /// In words, why the server does not.
    pub async fn create(&self, stream: &Value) -> Result<Value, String> {
        self.change("STREAM.CREATE", stream).await
    }

    /// # Errors
    /// As [`Admin::create`].
    pub async fn update(&self, stream: &Value) -> Result<Value, String> {
        self.change("STREAM.UPDATE", stream).await
    }

    async fn change(&self, what: &str, stream: &Value) -> Result<Value, String> {
        let answer = self.ask(what, stream).await?;
        error_of(&answer).map_or(Ok(answer), |(_, words)| Err(words))
    }

    async fn ask(&self, what: &str, payload: &Value) -> Result<Value, String> {
        let subject = format!("{what}.{}", self.config.stream);
        let answer = self.jetstream.request(subject, payload).await;
        answer.map_err(|error| self.or_complaint(&error.to_string()))
    }

    /// A server that forbids something does not answer, and says so elsewhere.
    fn or_complaint(&self, error: &str) -> String {
        let own = || match error.contains("timed out") {
            true => format!("{NO_ANSWER} within {ANSWER:?}"),
            false => in_words(&error),
        };
        self.complaints.lock().pop().unwrap_or_else(own)
    }

    /// Does once what a daemon does, and leaves nothing behind. Each right with what is wrong with it.
    pub async fn try_rights(&self) -> Vec<(String, Result<(), String>)> {
        let stream = &self.config.stream;
        let mut tried = vec![(format!("publish to {}", self.config.subject), self.try_publish().await)];
        let name = format!("luxcast-check-{:08x}", fastrand::u32(..));
        let made = self.try_create(&name).await;
        let consumer = made.as_ref().ok().cloned();
        tried.push((format!("make consumers of {stream}"), made.map(drop)));
        if let Some(consumer) = consumer {
            tried.push((format!("read from {stream}"), self.try_read(&consumer).await));
            let removed = self.jetstream.delete_consumer_from_stream(&name, stream).await;
            let removed = removed.map(drop).map_err(|error| self.or_complaint(&error.to_string()));
            tried.push((format!("remove consumers of {stream}"), removed));
        }
        let found = alone::read(&self.jetstream, stream, From::Message(1)).await;
        let found = found.map(drop).map_err(|error| self.or_complaint(&error));
        tried.push((format!("read messages of {stream} alone"), found));
        tried
    }

    /// The server refuses the message, since it is for another stream: so nothing is stored.
    async fn try_publish(&self) -> Result<(), String> {
        let mut headers = HeaderMap::new();
        headers.insert(chunk::EXPECTED_STREAM, "luxcast-no-such-stream");
        let request = Request::new().headers(headers).payload("".into()).timeout(Some(ANSWER));
        let answer = self.client.send_request(self.config.subject.clone(), request).await;
        let answer = answer.map_err(|error| self.or_complaint(&error.to_string()))?;
        let answer: Value = serde_json::from_slice(&answer.payload).map_err(|_| "somebody else answers")?;
        match error_of(&answer) {
            Some((OTHER_STREAM, _)) => Ok(()),
            Some((_, words)) => Err(words),
            None => Err("somebody else answers".to_owned()),
        }
    }

    async fn try_create(&self, name: &str) -> Result<PullConsumer, String> {
        let config = consumer::Config {
            name: Some(name.to_owned()),
            // No message comes: who knows what stands in the stream.
            deliver_policy: DeliverPolicy::New,
            ack_policy: AckPolicy::None,
            inactive_threshold: CONSUMER_LIFE,
            num_replicas: 1,
            memory_storage: true,
            ..consumer::Config::default()
        };
        let made = self.jetstream.create_consumer_on_stream(config, self.config.stream.clone()).await;
        made.map_err(|error| self.or_complaint(&error.to_string()))
    }

    async fn try_read(&self, consumer: &PullConsumer) -> Result<(), String> {
        let inbox = self.client.new_inbox();
        let said = |error: &dyn std::fmt::Display| self.or_complaint(&error.to_string());
        let mut answers = self.client.subscribe(inbox.clone()).await.map_err(|error| said(&error))?;
        let pull = consumer::BatchConfig { batch: 1, no_wait: true, ..Default::default() };
        consumer.request_batch(pull, inbox.into()).await.map_err(|error| said(&error))?;
        // The word that there is none, or one that has just come.
        match timeout(ANSWER, answers.next()).await {
            Ok(Some(_)) => Ok(()),
            _ => Err(said(&"nothing came")),
        }
    }
}

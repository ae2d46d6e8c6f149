//! What a client and the daemon say to each other beside events: a greeting first, one answer to each message of the client
//! in their order, and a farewell, behind which nothing comes.

use std::collections::VecDeque;

use serde_json::{Value, json};

/// In the farewell: when the client is to come back.
pub const RETRY_MILLIS: u64 = 500;

#[derive(Default)]
pub struct Conversation {
    is_greeted: bool,
    has_farewell: bool,
    /// It is for many jobs, where each heartbeat has a pong.
    is_many: bool,
    /// The pong of a heartbeat comes next.
    has_beaten: bool,
    /// Messages of the client that are not answered yet.
    open: VecDeque<Value>,
}

impl Conversation {
    /// The client says this.
    pub fn say(&mut self, text: &str) {
        self.open.push_back(serde_json::from_str(text).expect("it is JSON"));
    }

    pub fn hear_event(&self, number: u64) {
        assert!(self.is_greeted, "event {number} comes before the greeting");
        assert!(!self.has_farewell, "event {number} comes behind the farewell");
        assert!(!self.has_beaten, "event {number} comes before the pong of a heartbeat");
    }

    pub fn hear(&mut self, notice: &Value) {
        assert!(!self.has_farewell, "{notice} comes behind the farewell");
        let is_greeting = notice["type"] == "connected" || notice["status"] == "connected";
        assert!(is_greeting != self.is_greeted, "{notice} comes, where it was greeted: {}", self.is_greeted);
        self.is_greeted = true;
        self.is_many |= notice["type"] == "connected";
        if std::mem::take(&mut self.has_beaten) {
            assert!(notice["type"] == "pong", "{notice} comes before the pong of a heartbeat");
            return;
        }
        self.has_beaten = self.is_many && notice["type"] == "ping";
        if notice["status"] == "disconnected" {
            assert_eq!(notice["retry_after_ms"], RETRY_MILLIS, "{notice}");
            self.has_farewell = true;
        }
        if is_answer(notice) {
            let asked = self.open.pop_front().unwrap_or_else(|| panic!("{notice} answers nothing"));
            assert!(can_answer(notice, &asked), "{notice} is the answer to {asked}");
        }
    }

    /// The daemon said that it ends the connection.
    pub fn has_farewell(&self) -> bool {
        self.has_farewell
    }

    /// The client was greeted, and all that it said was answered.
    pub fn is_answered(&self) -> bool {
        self.is_greeted && self.open.is_empty()
    }
}

fn is_answer(notice: &Value) -> bool {
    const OTHERS: [&str; 5] = ["connection:status", "connected", "metrics", "ping", "stream:gap"];
    !OTHERS.contains(&notice["type"].as_str().expect("a notice has a type"))
}

fn can_answer(notice: &Value, asked: &Value) -> bool {
    let is_of_job = |kind: &str| asked["type"] == kind && asked["job_id"] == notice["job_id"];
    match notice["type"].as_str().expect("a notice has a type") {
        "pong" => asked["action"] == "ping",
        "subscription:confirmed" => {
            let names = asked.get("events").cloned().unwrap_or(json!([]));
            asked["action"] == notice["action"] && names == notice["events"]
        }
        "subscribed" | "already_subscribed" => is_of_job("subscribe"),
        "unsubscribed" | "not_subscribed" => is_of_job("unsubscribe"),
        // There is no room for another job; all messages are good ones.
        "error" => notice["code"] == "too_many_jobs" && is_of_job("subscribe"),
        _ => false,
    }
}

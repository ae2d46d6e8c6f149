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
        let Some(is_answer_to) = answer(notice) else { return };
        let asked = self.open.pop_front().unwrap_or_else(|| panic!("{notice} answers nothing"));
        assert!(is_answer_to(&asked), "{notice} is the answer to {asked}");
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

/// What a notice can be the answer to; None: it is no answer.
fn answer(notice: &Value) -> Option<Box<dyn Fn(&Value) -> bool + '_>> {
    let of_job = move |kind: &'static str| {
        Box::new(move |asked: &Value| asked["type"] == kind && asked["job_id"] == notice["job_id"])
    };
    Some(match notice["type"].as_str().expect("a notice has a type") {
        "pong" => Box::new(|asked| asked["action"] == "ping"),
        "subscription:confirmed" => Box::new(|asked| {
            let names = asked.get("events").cloned().unwrap_or(json!([]));
            asked["action"] == notice["action"] && names == notice["events"]
        }),
        "subscribed" | "already_subscribed" => of_job("subscribe"),
        "unsubscribed" | "not_subscribed" => of_job("unsubscribe"),
        // There is no room for another job.
        "error" if notice["code"] == "too_many_jobs" => of_job("subscribe"),
        "error" => panic!("{notice} comes, and all messages are good ones"),
        _ => return None,
    })
}

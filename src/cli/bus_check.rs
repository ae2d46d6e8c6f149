//! What `luxcast bus check` finds: of the server, of the stream, and of what the daemon may do.

use std::fmt;

use async_nats::ServerInfo;
use serde_json::Value;

use crate::bus::chunk::{Bounds, OVERHEAD_BYTES_MAX};
use crate::config::Config;
use crate::net::bus::admin::{Admin, NO_ANSWER, UNAVAILABLE};
use crate::net::bus::connect::BusConfig;
use crate::net::bus::stream_config::{bounds_of, epochs, faults};

/// Earlier servers keep no metadata, or take some chunks for others.
const VERSION_MIN: (u32, u32) = (2, 11);

/// One line of the answer.
pub enum Finding {
    Good(String),
    Warning(String),
    /// No daemon can work with this.
    Error(String),
}

impl Finding {
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(formatter, "ok: {text}"),
            Self::Warning(text) => write!(formatter, "warning: {text}"),
            Self::Error(text) => write!(formatter, "error: {text}"),
        }
    }
}

/// # Errors
/// That the server is too old.
pub fn check_version(version: &str) -> Result<(), String> {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) if (major, minor) >= VERSION_MIN => Ok(()),
        _ => Err(format!("nats-server {version} is too old; {}.{} is needed", VERSION_MIN.0, VERSION_MIN.1)),
    }
}

/// `bus` is what the settings say.
pub async fn findings(admin: &Admin, bus: &BusConfig, config: &Config, bounds: Bounds) -> Vec<Finding> {
    let found = admin.info().await;
    // A line may be as long as the stream allows.
    let all = found.as_ref().ok().and_then(Option::as_ref).map(|info| bounds_of(&info["config"], bounds));
    let mut findings = of_servers(bus, all.unwrap_or(bounds).line_bytes_max).await;
    let stream = &config.bus_stream;
    let info = match found {
        Ok(Some(info)) => info,
        Ok(None) => {
            findings
                .push(Finding::Error(format!("there is no stream {stream}: luxcast bus create makes it")));
            return findings;
        }
        Err(error) => {
            findings.push(Finding::Error(format!("no word of the stream {stream}: {error}")));
            return findings;
        }
    };
    let wrong = faults(&info["config"], &config.bus_subject, bounds);
    if wrong.is_empty() {
        findings.push(Finding::Good(format!("the stream {stream} takes {}", config.bus_subject)));
    }
    findings.extend(wrong.into_iter().map(|fault| match fault.is_fatal {
        true => Finding::Error(format!("{stream}: {}", fault.what)),
        false => Finding::Warning(format!("{stream}: {}", fault.what)),
    }));
    findings.extend(of_numbers(&info));
    findings.push(of_content(&info));
    findings.extend(of_copies(&info));
    let has_copies = info["config"]["num_replicas"].as_u64() > Some(1);
    let tried = admin.try_rights().await.into_iter();
    findings.extend(tried.map(|(right, result)| of_right(&right, result, has_copies)));
    findings
}

/// Silence is not a matter of rights.
fn of_right(right: &str, result: Result<(), String>, has_copies: bool) -> Finding {
    match result {
        Ok(()) => Finding::Good(format!("may {right}")),
        Err(error) if error.contains(NO_ANSWER) || error.contains(UNAVAILABLE) => {
            let why = if has_copies { "no majority of the servers answers" } else { &error };
            Finding::Error(format!("could not try to {right}: {why}"))
        }
        Err(error) => Finding::Error(format!("may not {right}: {error}")),
    }
}

/// A daemon may come to any of them.
async fn of_servers(bus: &BusConfig, line_bytes_max: usize) -> Vec<Finding> {
    let mut findings = Vec::new();
    for address in &bus.servers {
        let alone = BusConfig { servers: vec![address.clone()], ..bus.clone() };
        findings.push(match Admin::connect(alone).await {
            Ok(admin) => of_server(&address.to_string(), &admin.server_info(), line_bytes_max),
            Err(error) => Finding::Warning(format!("{address}: {error}")),
        });
    }
    findings
}

fn of_server(address: &str, server: &ServerInfo, line_bytes_max: usize) -> Finding {
    let ServerInfo { server_name: name, version, max_payload, .. } = server;
    if let Err(error) = check_version(version) {
        return Finding::Error(format!("{address}: {name}: {error}"));
    }
    let needed = line_bytes_max + OVERHEAD_BYTES_MAX;
    match *max_payload >= needed {
        true => {
            Finding::Good(format!("{address}: {name} is nats-server {version}, max_payload {max_payload}"))
        }
        false => Finding::Error(format!(
            "{address}: {name}: max_payload is {max_payload}, but a line may have {line_bytes_max} bytes \
             (line_bytes_max): make it {needed} or more"
        )),
    }
}

/// What is wrong with the metadata is among the faults.
fn of_numbers(info: &Value) -> Option<Finding> {
    let epochs = epochs(&info["config"]).ok()?;
    let last = info["state"]["last_seq"].as_u64().unwrap_or(0);
    let later = match epochs.later_text() {
        text if text.is_empty() => String::new(),
        text => format!(", later epochs {text}"),
    };
    Some(match epochs.number(last.saturating_add(1), 0) {
        Ok(next) => Finding::Good(format!("base {}{later}; the next number is {next}", epochs.base_text())),
        Err(_) => Finding::Error("the numbers of this stream are used up".to_owned()),
    })
}

fn of_content(info: &Value) -> Finding {
    let state = &info["state"];
    let text = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
    match state["messages"].as_u64() {
        None | Some(0) => Finding::Good(format!("no message; the last one was {}", state["last_seq"])),
        Some(count) => Finding::Good(format!(
            "{count} messages, {} bytes: {} ({}) to {} ({})",
            state["bytes"],
            state["first_seq"],
            text("first_ts"),
            state["last_seq"],
            text("last_ts")
        )),
    }
}

fn of_copies(info: &Value) -> Vec<Finding> {
    let wanted = info["config"]["num_replicas"].as_u64().unwrap_or(1);
    let cluster = &info["cluster"];
    let mut findings = Vec::new();
    if wanted == 1 {
        findings.push(Finding::Warning("one copy: while its server is away, so is the stream".to_owned()));
        return findings;
    }
    findings.push(match cluster["leader"].as_str().filter(|name| !name.is_empty()) {
        Some(leader) => Finding::Good(format!("{wanted} copies, led by {leader}")),
        None => Finding::Error("the copies of the stream have no leader".to_owned()),
    });
    for copy in cluster["replicas"].as_array().into_iter().flatten() {
        let name = copy["name"].as_str().unwrap_or_default();
        if copy["offline"] == true {
            findings.push(Finding::Warning(format!("the copy on {name} is offline")));
        } else if copy["current"] != true {
            findings.push(Finding::Warning(format!("the copy on {name} lags behind")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{check_version, of_content, of_copies, of_numbers, of_right};

    #[test]
    fn old_servers_are_refused() {
        for good in ["2.11.0", "2.12.8", "2.15.1", "3.0.0", "2.11.0-RC.1"] {
            assert_eq!(check_version(good), Ok(()), "{good}");
        }
        for bad in ["2.10.29", "1.99.0", "", "x.y", "2"] {
            assert!(check_version(bad).unwrap_err().contains("2.11 is needed"), "{bad}");
        }
    }

    #[test]
    fn silence_is_told_from_a_missing_right() {
        for (error, has_copies, expected) in [
            ("no answer within 5s", true, "could not try to do it: no majority of the servers answers"),
            (
                "JetStream system temporarily unavailable",
                true,
                "could not try to do it: no majority of the servers answers",
            ),
            ("no answer within 5s", false, "could not try to do it: no answer within 5s"),
            ("Permissions Violation for Publish", true, "may not do it: Permissions Violation for Publish"),
        ] {
            let found = of_right("do it", Err(error.to_owned()), has_copies).to_string();
            assert_eq!(found, format!("error: {expected}"));
        }
        assert_eq!(of_right("do it", Ok(()), true).to_string(), "ok: may do it");
    }

    #[test]
    fn what_the_server_says_is_put_into_words() {
        let metadata = json!({"luxcast.format": "1", "luxcast.base": "1700000000000000"});
        let info = json!({
            "config": {"num_replicas": 3, "metadata": metadata},
            "state": {"messages": 2, "bytes": 70, "first_seq": 4, "last_seq": 5, "first_ts": "a", "last_ts": "b"},
            "cluster": {"leader": "n1", "replicas": [
                {"name": "n2", "current": true}, {"name": "n3", "current": false}, {"name": "n4", "offline": true},
            ]},
        });
        assert_eq!(of_content(&info).to_string(), "ok: 2 messages, 70 bytes: 4 (a) to 5 (b)");
        let numbers = of_numbers(&info).unwrap().to_string();
        assert_eq!(numbers, "ok: base 1700000000000000; the next number is 1700000000006144");
        let copies: Vec<String> = of_copies(&info).iter().map(ToString::to_string).collect();
        let expected = [
            "ok: 3 copies, led by n1",
            "warning: the copy on n3 lags behind",
            "warning: the copy on n4 is offline",
        ];
        assert_eq!(copies, expected);
        let headless = json!({"config": {"num_replicas": 3}, "cluster": {"replicas": []}});
        assert!(of_copies(&headless)[0].is_error() && of_numbers(&headless).is_none());
        assert_eq!(
            of_content(&json!({"state": {"messages": 0, "last_seq": 9}})).to_string(),
            "ok: no message; the last one was 9"
        );
    }
}

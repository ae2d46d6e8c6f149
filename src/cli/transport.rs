//! Which way a watcher's messages come: the one that was asked for, or the first that gets through.

use std::time::{Duration, Instant};

use crate::cli::connection::Way;
use crate::cli::messages::{Form, Heard, Messages};
use crate::cli::refusal::Refused;

/// The daemon greets a watcher at once. A WebSocket that brings nothing for so long is swallowed on its way.
const GREETING_SECONDS: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Transport {
    /// WebSocket, and lines of JSON over plain HTTP where something in between lets no WebSocket pass
    #[default]
    Auto,
    /// WebSocket only
    Websocket,
    /// Server-Sent Events over plain HTTP
    Sse,
    /// Lines of JSON over plain HTTP
    Ndjson,
}

/// Connects a watcher until this deadline at most; returns the transport that it has, which is not `Auto`. Of `Auto`,
/// `tell` gets the reason for which there is no WebSocket.
pub fn connect(
    way: &Way,
    transport: Transport,
    target: &str,
    until: Option<Instant>,
    tell: &mut dyn FnMut(&str),
) -> Result<(Messages, Transport), Refused> {
    let host = &way.address.host;
    let http = |form: Form, transport| {
        let answer = way.stream(target, form.media_type(), until)?;
        Ok((Messages::of_http(answer, form, host), transport))
    };
    match transport {
        Transport::Sse => return http(Form::Sse, transport),
        Transport::Ndjson => return http(Form::Ndjson, transport),
        Transport::Auto | Transport::Websocket => {}
    }
    let opened = way.websocket(target, until).map(|socket| Messages::of_websocket(socket, host));
    let reason = match opened {
        Ok(messages) if transport == Transport::Websocket => return Ok((messages, transport)),
        Ok(mut messages) => match messages.hear(GREETING_SECONDS, until) {
            Heard::OutputClosed => return Err(Refused::OutputClosed),
            Heard::End(reason) => format!("it ended before anything came: {reason}"),
            Heard::Silence => "it is open, and nothing comes".to_owned(),
            heard => {
                messages.put_back(heard);
                return Ok((messages, Transport::Websocket));
            }
        },
        Err(Refused::NoUpgrade(refused)) if transport == Transport::Websocket => return Err(*refused),
        Err(Refused::NoUpgrade(refused)) => refused.to_string(),
        Err(refused) => return Err(refused),
    };
    let connected = http(Form::Ndjson, Transport::Ndjson)?;
    tell(&reason);
    Ok(connected)
}

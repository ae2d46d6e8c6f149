//! The session of the test build (feature `echo`), for the Autobahn suite: no greeting, and each complete message is
//! sent back. Without the feature, nothing of it is in the program.

use crate::delivery::sink::Sink;
use crate::session::context::{SessionContext, Verdict};
use crate::wire::frame::{BINARY, TEXT, write_header, write_pong};
use crate::wire::message_reader::Message;

pub(super) fn handle_message<O: Sink>(message: &Message<'_>, context: &mut SessionContext<'_, O>) -> Verdict {
    context.watchers.enqueue_control(context.key, |out| match message {
        Message::Text(text) => write(out, TEXT, text.as_bytes()),
        Message::Binary(bytes) => write(out, BINARY, bytes),
        Message::Ping(payload) => write_pong(out, payload),
        Message::Pong(_) | Message::Close(_) => {}
    });
    match message {
        Message::Close(code) => Verdict::Echo(*code),
        _ => Verdict::Continue,
    }
}

fn write(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    write_header(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

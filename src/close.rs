//! Why the daemon ends a connection: one table of reasons, their close codes and their words.

/// A reason for the daemon itself to end a connection. When the client closes first, the daemon echoes the client's
/// code instead (RFC 6455, 5.5.1), which is none of these reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The bytes are not RFC 6455 frames.
    ProtocolError,
    /// A text message or a close reason is not UTF-8.
    BadUtf8,
    /// A compressed message does not inflate.
    BadDeflate,
    /// Too many messages in a row that could not be obeyed.
    Garbage,
    /// More messages than the rate allows.
    Flood,
    /// One message in too many fragments, or compressed in too many blocks.
    Fragments,
    /// The token has expired.
    Expired,
    /// A reload removed the token, or changed what it allows.
    Revoked,
    /// A message over `message_bytes_max`.
    TooBig,
    /// Nothing came from the client for `silent_heartbeats` intervals.
    Silent,
    /// The daemon's own fault.
    Fault,
    /// The daemon drains.
    Drain,
    /// There is no room for another connection.
    Full,
    /// The socket took no byte for `stalled_seconds`. It is reset, since no close frame could pass.
    Stalled,
}

impl CloseReason {
    /// Every reason, in the order of declaration: `ALL[reason as usize] == reason`.
    pub const ALL: [CloseReason; 14] = [
        CloseReason::ProtocolError,
        CloseReason::BadUtf8,
        CloseReason::BadDeflate,
        CloseReason::Garbage,
        CloseReason::Flood,
        CloseReason::Fragments,
        CloseReason::Expired,
        CloseReason::Revoked,
        CloseReason::TooBig,
        CloseReason::Silent,
        CloseReason::Fault,
        CloseReason::Drain,
        CloseReason::Full,
        CloseReason::Stalled,
    ];

    /// The close code (RFC 6455, 7.4.1; 1012 and 1013 from IANA's registry of close codes).
    pub fn code(self) -> u16 {
        self.row().0
    }

    /// The reason text of the close frame: a few words, at most 123 bytes (RFC 6455, 5.5 and
    /// 5.5.1).
    pub fn text(self) -> &'static str {
        self.row().2
    }

    /// One word for programs: the label of a counter.
    pub fn word(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            CloseReason::ProtocolError => (1002, "protocol_error", "protocol error"),
            CloseReason::BadUtf8 => (1007, "bad_utf8", "invalid UTF-8"),
            CloseReason::BadDeflate => (1007, "bad_deflate", "invalid compressed data"),
            CloseReason::Garbage => (1008, "garbage", "too many bad messages in a row"),
            CloseReason::Flood => (1008, "flood", "too many messages"),
            CloseReason::Fragments => (1008, "fragments", "too many fragments in one message"),
            CloseReason::Expired => (1008, "expired", "the token has expired"),
            CloseReason::Revoked => (1008, "revoked", "the token is not valid any more"),
            CloseReason::TooBig => (1009, "too_big", "message too big"),
            CloseReason::Silent => (1011, "silent", "nothing heard from you for too long"),
            CloseReason::Fault => (1011, "fault", "internal error"),
            CloseReason::Drain => (1012, "drain", "daemon is shutting down"),
            CloseReason::Full => (1013, "full", "over capacity"),
            CloseReason::Stalled => (1013, "stalled", "reading too slowly"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CloseReason;
    use std::collections::HashSet;

    #[test]
    fn each_reason_is_at_its_own_index() {
        for (place, reason) in CloseReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place);
        }
    }

    #[test]
    fn codes_are_those_of_the_protocol() {
        let codes = CloseReason::ALL.map(CloseReason::code);
        assert_eq!(
            codes,
            [1002, 1007, 1007, 1008, 1008, 1008, 1008, 1008, 1009, 1011, 1011, 1012, 1013, 1013]
        );
    }

    #[test]
    fn texts_fit_a_control_frame_and_differ() {
        let texts: HashSet<_> = CloseReason::ALL.map(CloseReason::text).into_iter().collect();
        assert_eq!(texts.len(), CloseReason::ALL.len());
        assert!(texts.iter().all(|text| !text.is_empty() && text.len() <= 123));
        let words: HashSet<_> = CloseReason::ALL.map(CloseReason::word).into_iter().collect();
        assert_eq!(words.len(), CloseReason::ALL.len());
    }
}

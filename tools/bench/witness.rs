//! A watcher whose messages are read whole: inflated with a window of its own, and compared byte for byte with what was
//! published. The others of a compressed crowd only count theirs.

use zlib_rs::{Inflate, InflateFlush, Status};

use crate::wire::{MEMBER_BYTES, Shape, Template, stream_seq};

/// What a sender leaves out at the end of each compressed message (RFC 7692, 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// The greatest window, which reads what any smaller one wrote.
const WINDOW_BITS: u8 = 15;
/// Longer messages than those of the load are a server's own.
const OTHERS_BYTES_MAX: usize = 4 << 10;

pub struct Witness {
    /// An event of its topic.
    template: Template,
    inflater: Inflater,
}

/// What an event of the load says about itself.
pub struct Seen {
    pub number: u64,
    pub stream_seq: u64,
    /// It says what was published under its number.
    pub is_right: bool,
}

/// What a client keeps to read a compressed stream.
struct Inflater {
    window: Inflate,
    /// A message with its tail.
    message: Vec<u8>,
    text: Vec<u8>,
}

impl Witness {
    pub fn new(shape: &Shape, topic: usize) -> Self {
        Self { template: shape.template(topic), inflater: Inflater::new(shape) }
    }

    /// A new connection begins with an empty window.
    pub fn begin_anew(&mut self) {
        self.inflater.window = Inflate::new(false, WINDOW_BITS);
    }

    /// Inflates a message and compares it. None: it is no event of the load.
    ///
    /// # Errors
    /// It is not compressed as was agreed.
    pub fn read(&mut self, compressed: &[u8], shape: &Shape) -> Result<Option<Seen>, String> {
        let payload = self.inflater.inflate(compressed)?;
        if payload.len() != shape.payload_bytes() || !shape.is_event(payload) {
            return Ok(None);
        }
        let number = shape.number(payload);
        let is_right = said_of(&mut self.template, number) == &payload[MEMBER_BYTES..];
        Ok(Some(Seen { number, stream_seq: stream_seq(payload), is_right }))
    }

    /// Whether an event with this payload says what was published under its number.
    pub fn knows(&mut self, payload: &[u8], number: u64) -> bool {
        said_of(&mut self.template, number) == &payload[MEMBER_BYTES..]
    }
}

/// What an event says behind the number that luxcast gives it.
fn said_of(template: &mut Template, number: u64) -> &[u8] {
    template.set(number);
    &template.line()[1..]
}

impl Inflater {
    fn new(shape: &Shape) -> Self {
        // A byte more than the longest: a buffer that is full hides that there is more.
        let room = shape.payload_bytes().max(OTHERS_BYTES_MAX) + 1;
        Self { window: Inflate::new(false, WINDOW_BITS), message: Vec::new(), text: vec![0; room] }
    }

    /// The text of a message.
    fn inflate(&mut self, compressed: &[u8]) -> Result<&[u8], String> {
        self.message.clear();
        self.message.extend_from_slice(compressed);
        self.message.extend_from_slice(&TAIL);
        let (taken, given) = (self.window.total_in(), self.window.total_out());
        let status = self.window.decompress(&self.message, &mut self.text, InflateFlush::SyncFlush);
        let status = status.map_err(|error| format!("a message cannot be inflated: {}", error.as_str()))?;
        let length = (self.window.total_out() - given) as usize;
        let is_whole =
            self.window.total_in() - taken == self.message.len() as u64 && length < self.text.len();
        match is_whole && status != Status::StreamEnd {
            true => Ok(&self.text[..length]),
            false => Err(format!("a message of {} bytes ends in the wrong place", compressed.len())),
        }
    }
}

#[cfg(test)]
mod tests {
    use zlib_rs::{Deflate, DeflateFlush};

    use super::{TAIL, Witness};
    use crate::wire::{Shape, TEXT_FRAME_BYTES};

    /// What a server keeps for a connection.
    struct Sender {
        shape: Shape,
        deflate: Deflate,
    }

    impl Sender {
        fn new() -> Self {
            let shape = Shape::of_text(TEXT_FRAME_BYTES as usize).expect("most events are that long");
            Self { shape, deflate: Deflate::new(6, false, 12) }
        }

        fn event(&mut self, topic: usize, number: u64) -> Vec<u8> {
            let mut template = self.shape.template(topic);
            template.set(number);
            let mut payload = Vec::new();
            template.write_payload(&mut payload);
            self.message(&payload)
        }

        fn message(&mut self, text: &[u8]) -> Vec<u8> {
            let mut out = vec![0; 8 << 10];
            let before = self.deflate.total_out();
            self.deflate.compress(text, &mut out, DeflateFlush::SyncFlush).expect("there is room");
            out.truncate((self.deflate.total_out() - before) as usize);
            assert!(out.ends_with(&TAIL));
            out.truncate(out.len() - TAIL.len());
            out
        }
    }

    #[test]
    fn a_witness_reads_on_with_one_window_and_sees_another_text() {
        let mut sender = Sender::new();
        let shape = sender.shape;
        let mut witness = Witness::new(&shape, 7);
        let mut bytes = 0;
        for number in 1..=400 {
            let message = sender.event(7, number);
            bytes += message.len();
            let seen = witness.read(&message, &shape).expect("it is right").expect("it is of the load");
            assert_eq!((seen.number, seen.is_right), (number, true));
            assert_eq!(seen.stream_seq, 1_000_000_000_000_000 + number);
        }
        assert!(bytes < 400 * 80, "real events repeat what stood before them: {bytes}");
        let seen =
            witness.read(&sender.event(8, 401), &shape).expect("it is right").expect("it is of the load");
        assert!(!seen.is_right, "of another topic");
        let mut payload = Vec::new();
        shape.template(7).write_payload(&mut payload);
        assert!(witness.knows(&payload, 0) && !witness.knows(&payload, 1));
        let last = payload.len() - 3;
        payload[last] ^= 1;
        let seen =
            witness.read(&sender.message(&payload), &shape).expect("it is right").expect("of the load");
        assert!(!seen.is_right, "one byte differs");
        let other = sender.message(br#"{"stream_seq":1,"type":"metrics"}"#);
        assert!(witness.read(&other, &shape).expect("it is right").is_none());
    }

    #[test]
    fn what_is_not_compressed_as_agreed_is_an_error() {
        let mut sender = Sender::new();
        let shape = sender.shape;
        let messages: Vec<Vec<u8>> = (1..=3).map(|number| sender.event(1, number)).collect();
        let mut witness = Witness::new(&shape, 1);
        assert!(witness.read(&messages[0], &shape).is_ok());
        // The third refers to what stood in the second.
        let lost = witness.read(&messages[2], &shape);
        assert!(!matches!(lost, Ok(Some(seen)) if seen.is_right), "a message was left out");
        witness.begin_anew();
        assert!(witness.read(&messages[1], &shape).is_err(), "its window is that of another connection");
        witness.begin_anew();
        assert!(witness.read(b"{}", &shape).is_err());
        witness.begin_anew();
        let long = sender.message(&vec![b'x'; 5_000]);
        assert!(witness.read(&long, &shape).is_err(), "longer than anything that is sent here");
        witness.begin_anew();
        let cut = witness.read(&messages[0][..20], &shape);
        assert!(!matches!(cut, Ok(Some(seen)) if seen.is_right), "cut off");
    }
}

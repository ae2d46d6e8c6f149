//! Bytes that a socket took and the peer has not acknowledged yet.
//!
//! The only unsafe code of the project. Acknowledged bytes are the one honest measure of a slow reader: a writable edge
//! comes only when a third of the send buffer is free. No crate offers `SIOCOUTQ` safely; the
//! call writes one `int` through a pointer that rustix makes for it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ`, which is `TIOCOUTQ` (linux/sockios.h).
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes in the send queue: not sent, or sent and not acknowledged.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u32> {
    // SAFETY: SIOCOUTQ stores one `int` in its argument (tcp(7)), which is what `Getter` has room for.
    let bytes = unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }?;
    Ok(bytes.max(0) as u32)
}

//! Notifies the service manager (sd_notify(3)) that the daemon is ready, reloads or stops, and that its threads are alive.
//! Without a service manager this does nothing.
//!
//! The variables that name the service manager stay in the environment: the daemon starts no programs that would inherit
//! them.

use std::io;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::net::report::liveness::Liveness;

/// The daemon is ready: it has started, or a reload is done.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot read the clock for the service manager: {error}"),
    }
}

pub fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot notify the service manager of {states:?}: {error}");
    }
}

/// How long the service manager waits for a sign of life before it restarts the daemon. None: it asks for no signs.
pub fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

/// Sends two signs of life per `patience`, as long as every thread has begun a turn since the last. Never returns.
pub fn watch_over(liveness: &Liveness, patience: Duration) -> io::Result<()> {
    let mut before = None;
    loop {
        let silent =
            before.filter(|_| !liveness.is_ending()).map(|before: Vec<u64>| liveness.silent_since(&before));
        match silent.filter(|silent| !silent.is_empty()) {
            None => notify(&[NotifyState::Watchdog]),
            Some(silent) => {
                tracing::error!("no sign of life for the service manager: {} hangs", silent.join(", "));
            }
        }
        before = Some(liveness.turns());
        liveness.wake();
        thread::sleep(patience / 2);
    }
}

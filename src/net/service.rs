//! What the service manager is told (sd_notify(3)): that the daemon is ready, reloads, stops, and that all its threads
//! are alive. Without a service manager, nobody is told anything.
//!
//! The variables that name it stay in the environment: the daemon starts no programs that could inherit them.

use std::io;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

/// Everything serves, or serves again after a reload.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!("cannot read the clock for the service manager: {error}"),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!("cannot tell the service manager {states:?}: {error}");
    }
}

/// How long the service manager waits for a sign of life before it starts the daemon anew.
pub fn patience() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|patience| !patience.is_zero())
}

/// A thread that turns around now and then.
pub struct Pulse {
    pub name: String,
    /// Set by the thread at each turn; gone with the thread, as threads go when the daemon drains.
    pub has_turned: Weak<AtomicBool>,
    /// Makes a thread that sleeps turn around.
    pub wake: Box<dyn Fn() + Send>,
}

impl Pulse {
    fn is_alive(&self) -> bool {
        self.has_turned.upgrade().is_none_or(|has_turned| has_turned.swap(false, Ordering::Relaxed))
    }
}

/// Gives signs of life twice in the time that they are waited for, as long as every thread has turned since the last.
pub fn watch_over(pulses: &[Pulse], patience: Duration) -> io::Result<()> {
    loop {
        let silent = pulses.iter().filter(|pulse| !pulse.is_alive()).map(|pulse| &*pulse.name);
        let silent: Vec<&str> = silent.collect();
        match silent.is_empty() {
            true => tell(&[NotifyState::Watchdog]),
            false => tracing::error!("no sign of life for the service manager: {} hangs", silent.join(", ")),
        }
        pulses.iter().for_each(|pulse| (pulse.wake)());
        thread::sleep(patience / 2);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    use super::Pulse;

    #[test]
    fn a_thread_that_has_turned_or_ended_is_alive_and_one_that_hangs_is_not() {
        let has_turned = Arc::new(AtomicBool::new(true));
        let pulse =
            Pulse { name: "t".to_owned(), has_turned: Arc::downgrade(&has_turned), wake: Box::new(|| {}) };
        assert!(pulse.is_alive());
        assert!(!pulse.is_alive(), "it has not turned since");
        drop(has_turned);
        assert!(pulse.is_alive(), "it has ended");
    }
}

//! The library's client, and what becomes of it if a message kills it.

use std::cell::{Cell, RefCell};
use std::io;
use std::panic::PanicHookInfo;
use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{Client, Event};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task;

use crate::net::bus::connect::{self, BusConfig};

/// The server has so long to answer a question of the reader, or to make a consumer.
pub(super) const ANSWER: Duration = Duration::from_secs(2);

thread_local! {
    static IS_BUS: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A client, and what happens to its connection.
pub(super) struct Link {
    pub client: Client,
    pub jetstream: Context,
    /// They end with the client's task, which only a panic ends.
    pub events: UnboundedReceiver<Event>,
}

impl Link {
    /// # Errors
    /// What is wrong with the settings of the connection.
    pub async fn open(config: &BusConfig, name: &str) -> io::Result<Self> {
        let (sender, events) = unbounded_channel();
        let on_event = move |event| drop(sender.send(event));
        let client = connect::connect(config, name, on_event).await?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        Ok(Self { client, jetstream, events })
    }
}

/// From now on this thread outlives panics of its tasks, see [`outlives`].
pub(super) fn note_bus_thread() {
    IS_BUS.set(true);
}

/// For the hook of panics: whether the bus thread goes on after this one.
///
/// The client's task panics over some messages of the stream, which anybody may have put there. The runtime catches what
/// happens in a task: the client is dead, the thread hears that by the end of its events, and makes another one. A task of
/// our own tells its end to the thread, which fails and ends the process; so does a panic of the thread outside tasks.
pub fn outlives(panic: &PanicHookInfo<'_>) -> bool {
    if !IS_BUS.get() || task::try_id().is_none() {
        return false;
    }
    LAST_PANIC.set(Some(panic.to_string().replace('\n', " ")));
    true
}

/// The words of the last panic that this thread has outlived.
pub(super) fn last_panic() -> String {
    LAST_PANIC.take().unwrap_or_else(|| "it has ended".to_owned())
}

#[cfg(test)]
mod tests {
    use std::panic;
    use std::sync::mpsc::channel;
    use std::thread;

    use super::{last_panic, note_bus_thread, outlives};

    #[test]
    fn a_bus_thread_outlives_panics_of_tasks_alone() {
        const NAME: &str = "outlives";
        let (sender, outlived) = channel();
        let usual = panic::take_hook();
        // Of other threads this says what is usual.
        panic::set_hook(Box::new(move |panic| match thread::current().name() {
            Some(NAME) => drop(sender.send(outlives(panic))),
            _ => usual(panic),
        }));
        let run = |is_bus: bool, is_task: bool| {
            let work = move || {
                if is_bus {
                    note_bus_thread();
                }
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    if is_task {
                        assert!(tokio::spawn(async { panic!("bad\nheaders") }).await.is_err());
                        return last_panic();
                    }
                    panic!("outside")
                })
            };
            let words = thread::Builder::new().name(NAME.to_owned()).spawn(work).unwrap().join();
            (outlived.recv().unwrap(), words.unwrap_or_default())
        };
        let (is_outlived, words) = run(true, true);
        assert!(is_outlived && words.contains("client.rs") && words.ends_with("bad headers"), "{words}");
        assert!(!run(true, false).0 && !run(false, true).0);
    }
}

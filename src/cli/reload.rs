//! Reloads the settings on SIGHUP: the running daemon takes over all those that can change, or none. On its own
//! thread: reading a file may take time, and the signals that end the daemon must not wait.

use std::env;
use std::sync::Arc;

use clap::ArgMatches;
use crossbeam_channel::Receiver;

use super::logging::LevelSwitch;
use crate::config::{self, Loaded, Renewed};
use crate::net::host::service_manager;
use crate::server::Server;

pub struct Reload {
    /// The command line at start; with the environment and the file it gives the settings again.
    pub flags: ArgMatches,
    /// In force.
    pub loaded: Loaded,
    pub server: Arc<Server>,
    pub level: LevelSwitch,
}

impl Reload {
    /// Reloads at each request, until no sender is left.
    pub fn run(mut self, requests: Receiver<()>) {
        for () in requests {
            service_manager::reloading();
            if let Err(problem) = self.reload() {
                tracing::error!("nothing was reloaded, the old settings stay: {problem}");
            }
            service_manager::ready();
        }
    }

    fn reload(&mut self) -> Result<(), String> {
        let fresh = config::load(&self.flags, env::vars_os()).map_err(|error| error.to_string())?;
        let Renewed { loaded, changed, needs_restart } =
            self.loaded.renew(fresh).map_err(|error| error.to_string())?;
        let read_anew = self.server.reload(&loaded.config).map_err(|error| error.to_string())?;
        // Logged at the more talkative of the two levels, so that a change of the level is seen.
        let (before, after) = (self.loaded.config.log_level, loaded.config.log_level);
        self.level.set(before.max(after));
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        if !needs_restart.is_empty() {
            tracing::warn!("changed, but needs a restart: {}", needs_restart.join(", "));
        }
        tracing::info!("{}", outcome(&changed, &read_anew));
        self.level.set(after);
        self.loaded = loaded;
        Ok(())
    }
}

/// The outcome of a reload, in one line.
fn outcome(changed: &[&str], read_anew: &[String]) -> String {
    let settings = match changed.is_empty() {
        true => "no setting has changed".to_owned(),
        false => format!("changed: {}", changed.join(", ")),
    };
    match read_anew.is_empty() {
        true => format!("reloaded; {settings}"),
        false => format!("reloaded; {settings}; read again: {}", read_anew.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::outcome;

    #[test]
    fn the_outcome_names_settings_and_files() {
        let files = ["token_file (the same 2 tokens)".to_owned(), "jwt_key_file (another key)".to_owned()];
        assert_eq!(outcome(&[], &[]), "reloaded; no setting has changed");
        assert_eq!(outcome(&["a", "b"], &[]), "reloaded; changed: a, b");
        assert_eq!(
            outcome(&[], &files),
            "reloaded; no setting has changed; read again: token_file (the same 2 tokens), jwt_key_file (another key)"
        );
    }
}

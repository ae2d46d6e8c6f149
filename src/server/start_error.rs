//! Why the daemon does not start, and whether another try makes sense.

use std::fmt;
use std::io;

use crate::net::host::state_dir::Unusable;

/// Why the daemon cannot start, in one line.
#[derive(Debug)]
pub enum StartError {
    /// A setting cannot be honoured: another try would end the same way.
    Setting(io::Error),
    /// Something needed is missing.
    System(io::Error),
    /// It was told to end before it had begun.
    Interrupted,
}

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Setting(error) | StartError::System(error) => error.fmt(formatter),
            StartError::Interrupted => formatter.write_str("told to end before it had begun"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<Unusable> for StartError {
    fn from(unusable: Unusable) -> Self {
        match unusable {
            Unusable::Setting(error) => Self::Setting(error),
            Unusable::InUse(error) => Self::System(error),
        }
    }
}

//! Finds the daemon's ingest socket for a command.

use std::env;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::config::default_ingest_paths;

/// Where a daemon may listen for publishers: the named place, else those of this user's own daemon and of the
/// system's.
#[derive(Clone)]
pub struct Places(Vec<PathBuf>);

impl Places {
    /// `path` is the flag's value; without it `LUXCAST_INGEST` counts, as for the daemon itself.
    pub fn new(path: Option<PathBuf>) -> Self {
        let variable = || env::var_os("LUXCAST_INGEST").filter(|path| !path.is_empty()).map(PathBuf::from);
        let named = path.or_else(variable);
        Self(named.map_or_else(default_ingest_paths, |path| vec![path]))
    }

    /// Connects to the first place where a daemon listens.
    ///
    /// # Errors
    /// Why each place failed.
    pub fn connect(&self) -> Result<(UnixStream, &Path), String> {
        let mut problems = Vec::new();
        for path in &self.0 {
            match UnixStream::connect(path) {
                Ok(stream) => return Ok((stream, path)),
                Err(error) => problems.push(problem(path, &error)),
            }
        }
        Err(format!(
            "no daemon takes events at {}; LUXCAST_INGEST or --ingest says where one does",
            problems.join(", nor at ")
        ))
    }
}

fn problem(path: &Path, error: &io::Error) -> String {
    format!("the socket {} ({error})", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::Places;

    #[test]
    fn the_place_with_a_listener_is_taken_and_all_are_named_if_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| directory.path().join(name));
        let places = Places(vec![first.clone(), second.clone()]);
        let problem = places.connect().unwrap_err();
        assert!([&first, &second].iter().all(|path| problem.contains(path.to_str().unwrap())), "{problem}");
        let _second = UnixListener::bind(&second).unwrap();
        assert_eq!(places.connect().unwrap().1, second);
        let _first = UnixListener::bind(&first).unwrap();
        assert_eq!(places.connect().unwrap().1, first);
        drop(_first);
        assert_eq!(places.connect().unwrap().1, second, "a socket that nobody listens on");
    }
}

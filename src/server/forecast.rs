//! Predicts what would keep a daemon with these settings from starting, or from doing what they ask for. It changes
//! nothing on this machine.

use std::fs;
use std::net::{IpAddr, TcpListener};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::fs::{Access, access};

use crate::config::Config;
use crate::net::host::state_dir;
use crate::server::claim;

/// One line for each problem. None is certain: the daemon may run as another user or on another machine.
pub fn warnings(config: &Config) -> Vec<String> {
    let addresses = config.listen.iter().map(|address| ("listen", address));
    let addresses = addresses.chain(config.admin.iter().map(|address| ("admin", address)));
    let mut warnings: Vec<String> =
        addresses.filter_map(|(name, address)| of_address(name, address.ip())).collect();
    // Without a setting `ingest`, `--demo` makes a path of its own.
    if config.ingest.is_some() || !config.demo {
        warnings.extend(of_ingest(&config.ingest_path()));
    }
    let state = config.state_dir.as_deref().map(state_dir::check);
    warnings.extend(state.and_then(Result::err).map(|error| error.to_string()));
    warnings
}

/// Checks that this machine has the address: some port of it can be bound.
fn of_address(name: &str, ip: IpAddr) -> Option<String> {
    TcpListener::bind((ip, 0)).err().map(|error| format!("{name}: cannot listen on {ip}: {error}"))
}

fn of_ingest(path: &Path) -> Option<String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Some(format!("ingest: {shown} exists and is not a socket"));
        }
        _ => {}
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let of = |problem| {
        Some(format!("ingest: no socket can be made at {shown}: {} {problem}", directory.display()))
    };
    match fs::metadata(directory) {
        Err(error) => of(format!("cannot be used: {error}")),
        Ok(metadata) if !metadata.is_dir() => of("is not a directory".to_owned()),
        Ok(_) => match access(directory, Access::WRITE_OK | Access::EXEC_OK) {
            Err(error) => of(format!("cannot be used: {error}")),
            Ok(()) => claim::check(path).err().map(|error| format!("ingest: {error}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::warnings;
    use crate::config::Config;

    fn config(ingest: PathBuf, state_dir: Option<PathBuf>) -> Config {
        Config { ingest: Some(ingest), state_dir, ..Config::default() }
    }

    #[test]
    fn what_is_missing_or_wrong_is_reported() {
        let scratch = tempfile::tempdir().unwrap();
        let path = |name: &str| scratch.path().join(name);
        fs::write(path("file"), "precious").unwrap();
        assert_eq!(warnings(&config(path("ingest.sock"), Some(path("state")))), [""; 0]);
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing was made");
        for (ingest, word) in [
            ("none/ingest.sock", "cannot be used"),
            ("file/ingest.sock", "not a directory"),
            ("file", "not a socket"),
        ] {
            let warned = warnings(&config(path(ingest), Some(path("file"))));
            assert_eq!(warned.len(), 2, "{warned:?}");
            assert!(warned[0].starts_with("ingest: ") && warned[0].contains(word), "{warned:?}");
            assert!(warned[1].contains("state_dir"), "{warned:?}");
        }
        symlink(path("nowhere"), path("link")).unwrap();
        symlink(path("nowhere"), path("linked.sock.lock")).unwrap();
        fs::create_dir_all(path("made.sock.lock")).unwrap();
        fs::create_dir_all(path("state/lock")).unwrap();
        for (ingest, state_dir, words) in [
            (PathBuf::from("/proc/x.sock"), PathBuf::from("/proc/x"), ["No such file", "No such file"]),
            (
                path("linked.sock"),
                path("link"),
                ["Too many levels", "something else than a directory is there"],
            ),
            (
                path("made.sock"),
                path("link/state"),
                ["Is a directory", "something else than a directory is there"],
            ),
            (PathBuf::from("/proc/x.sock"), path("state"), ["No such file", "Is a directory"]),
        ] {
            let warned = warnings(&config(ingest.clone(), Some(state_dir.clone())));
            let shown = ingest.display();
            let expected = [
                format!(
                    "ingest: cannot lock {shown}.lock, for the socket {shown} (--ingest names another place): {}",
                    words[0]
                ),
                format!("the state_dir {} cannot be used: {}", state_dir.display(), words[1]),
            ];
            assert_eq!(warned.len(), 2, "{warned:?}");
            assert!(
                warned.iter().zip(&expected).all(|(warned, expected)| warned.starts_with(expected)),
                "{warned:?}"
            );
        }
        // Reserved for documentation (RFC 5737, 3): no machine has it.
        let elsewhere =
            Config { listen: vec!["192.0.2.1:80".parse().unwrap()], demo: true, ..Config::default() };
        let warned = warnings(&elsewhere);
        assert!(
            warned.len() == 1 && warned[0].starts_with("listen: cannot listen on 192.0.2.1: "),
            "{warned:?}"
        );
    }
}

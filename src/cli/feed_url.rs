//! Where publishers find a daemon that takes events over HTTP.

use std::env;
use std::path::PathBuf;

use clap::ValueHint;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::cli::address::read;
use crate::cli::connection::{Token, Way};
use crate::cli::outlet::Outlet;
use crate::cli::trust::trust;
use crate::config::TOKEN_VARIABLE;

/// The daemon's own paths for publishers.
const PATHS: [&str; 2] = ["/api/v1/events", "/api/events"];

#[derive(Debug, Default, clap::Args)]
pub struct FeedUrl {
    /// Publish over HTTP to the daemon at this address instead: http://HOST:PORT or https://HOST, with a path if a
    /// proxy gives it one
    #[arg(long, value_name = "URL", conflicts_with = "ingest", value_hint = ValueHint::Url)]
    pub url: Option<String>,
    /// For https://: PEM file with the authority to trust, or with the daemon's own certificate [default: the
    /// authorities that this system trusts]
    #[arg(long, value_name = "FILE", requires = "url", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// With --url: token with the scope publish [default: LUXCAST_TOKEN, which other users of this machine cannot see]
    #[arg(long, value_name = "TOKEN", requires = "url", allow_hyphen_values = true,
          value_parser = OsStringValueParser::new().map(Token::new), value_hint = ValueHint::Other)]
    pub token: Option<Token>,
}

impl FeedUrl {
    /// How to reach the daemon over HTTP; `None` if the socket is meant.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn way(&self) -> Result<Option<Way>, String> {
        let Some(url) = &self.url else { return Ok(None) };
        let (place, query) = url.split_at(url.find('?').unwrap_or(url.len()));
        let base = place.trim_end_matches('/');
        let base = PATHS.into_iter().find_map(|path| base.strip_suffix(path)).unwrap_or(base);
        let pasted = read(&[base, query].concat()).map_err(|problem| format!("--url {problem}"))?;
        let variable = || env::var_os(TOKEN_VARIABLE).filter(|text| !text.is_empty()).map(Token::new);
        let token = self.token.clone().or_else(|| pasted.token.map(|token| Token::new(token.into())));
        let token = token.or_else(variable);
        if let Some(token) = &token {
            token.header()?;
        }
        if self.ca.is_some() && !pasted.address.is_tls {
            return Err("--ca needs a URL that begins with https://".to_owned());
        }
        let trust = pasted.address.is_tls.then(|| trust(self.ca.as_deref())).transpose()?;
        Ok(Some(Way { address: pasted.address, token, trust, outlet: Outlet::default() }))
    }
}

#[cfg(test)]
mod tests {
    use super::FeedUrl;

    #[test]
    fn the_daemons_own_path_may_stand_in_the_address() {
        for (url, shown) in [
            ("http://h:1", "h:1 "),
            ("http://h:1/", "h:1 "),
            ("http://h/live/", "h /live"),
            ("http://h/live/api/v1/events", "h /live"),
            ("h:1/api/events/", "h:1 "),
            ("ws://h:1/console/", "h:1 "),
        ] {
            let args = FeedUrl { url: Some(url.to_owned()), ..FeedUrl::default() };
            let address = args.way().unwrap().unwrap().address;
            assert_eq!(format!("{address} {}", address.prefix), shown, "{url}");
        }
        assert!(FeedUrl::default().way().unwrap().is_none());
        for (url, ca) in [("ftp://h", None), ("http://h/api/v1/jobs", None), ("http://h", Some("f".into()))] {
            let args = FeedUrl { url: Some(url.to_owned()), ca, ..FeedUrl::default() };
            assert!(args.way().is_err(), "{url}");
        }
        // Whoever sees the command line would have the token.
        for url in ["http://h:1/?token=secret", "http://h/live/api/v1/events?api_key=secret"] {
            let args = FeedUrl { url: Some(url.to_owned()), ..FeedUrl::default() };
            let problem = args.way().err().unwrap();
            assert!(problem.contains("--token") && !problem.contains("secret"), "{problem}");
        }
    }
}

//! Where the daemon is, for those who watch it, and as whom: from flags, variables and a pasted address.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::ValueHint;
use clap::builder::{OsStringValueParser, TypedValueParser};
use rustls::ClientConfig;

use crate::cli::address::{Address, Pasted, read};
use crate::cli::connection::{Token, Way};
use crate::cli::outlet::Outlet;
use crate::cli::trust::trust;
use crate::config::{TOKEN_VARIABLE, URL_VARIABLE};

#[derive(Debug, Default, clap::Args)]
pub struct DaemonArgs {
    /// Address of the daemon: http://HOST:PORT, https://HOST, ws:// and wss:// likewise, HOST:PORT, or the URL of its live
    /// page or of an endpoint [default: LUXCAST_URL, else http://127.0.0.1:20555]
    #[arg(long, value_name = "URL", value_hint = ValueHint::Url)]
    pub url: Option<String>,
    /// For https:// or wss://: PEM file with the authority to trust, or with the daemon's own certificate [default: the
    /// authorities that this system trusts]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca: Option<PathBuf>,
    /// Token for the daemon [default: LUXCAST_TOKEN, which other users of this machine cannot see]
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true,
          value_parser = OsStringValueParser::new().map(Token::new), value_hint = ValueHint::Other)]
    pub token: Option<Token>,
    /// From `url`, or the variable.
    #[arg(skip)]
    pub address: Address,
}

/// What an address says beside where the daemon is.
pub struct Given {
    pub pasted: Pasted,
    /// The flag or the variable that has it.
    pub name: String,
}

/// A variable of the environment that is not empty.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|text| !text.is_empty())
}

impl DaemonArgs {
    /// Fills in from variables and from the pasted address what no flag gives. `None`: there is no address.
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn complete(&mut self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Given>, String> {
        let of_variable = || Some((format!("the variable {URL_VARIABLE}"), variable(URL_VARIABLE)?));
        let given = match &self.url {
            Some(url) => Some(("--url".to_owned(), url.into())),
            None => of_variable(),
        };
        let given = given.map(|(name, url)| {
            let url = url.to_str().ok_or_else(|| format!("{name} is not UTF-8"))?;
            let pasted = read(url).map_err(|problem| format!("{name} {problem}"))?;
            Ok::<_, String>(Given { pasted, name })
        });
        let given = given.transpose()?;
        let mut token = None;
        if let Some(Given { pasted, .. }) = &given {
            self.address = pasted.address.clone();
            token = pasted.token.clone().map(|token| Token::new(token.into()));
        }
        self.token = self.token.take().or(token).or_else(|| variable(TOKEN_VARIABLE).map(Token::new));
        if let Some(token) = &self.token {
            token.header()?;
        }
        if self.ca.is_some() && !self.address.is_tls {
            return Err("--ca needs a URL that begins with https:// or wss://".to_owned());
        }
        Ok(given)
    }

    /// How to reach the daemon.
    ///
    /// # Errors
    /// With TLS: no authority to trust.
    pub fn way(&self, outlet: Outlet) -> Result<Way, String> {
        let trusted = || -> Result<Arc<ClientConfig>, String> { trust(self.ca.as_deref()) };
        let trust = self.address.is_tls.then(trusted).transpose()?;
        Ok(Way { address: self.address.clone(), token: self.token.clone(), trust, outlet })
    }
}

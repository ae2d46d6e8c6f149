//! The settings that connections are judged by, as a reload replaces them.

use std::sync::Arc;

use rustls::ServerConfig;

use crate::access::allowed_hosts::Hosts;
use crate::access::client_address::Proxies;
use crate::access::keyring::Auth;
use crate::config::HttpPublish;
use crate::delivery::progress::Patience;
use crate::net::listen::certificate::Certificate;
use crate::session::limits::SessionLimits;

/// What connections are judged by: read from the settings, shared by all shards, replaced as a whole by a reload.
pub struct LiveConfig {
    /// Who may watch what.
    pub auth: Auth,
    pub limits: SessionLimits,
    pub patience: Patience,
    pub allowed_origins: Vec<String>,
    pub http_publish: HttpPublish,
    /// Compression is agreed on with whoever offers it.
    pub compresses: bool,
    pub hosts: Hosts,
    pub proxies: Proxies,
    /// For the handshakes of new connections, where TLS is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// The certificate that `tls` shows.
    pub certificate: Option<Certificate>,
}

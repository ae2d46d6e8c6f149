//! Names of hosts, as several settings have them.

use std::net::Ipv6Addr;

/// A name or an address; an IPv6 address is in brackets.
pub(super) fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // Names in other scripts come in their ASCII form, as browsers send them.
        None => {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        }
    }
}

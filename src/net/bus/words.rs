//! Errors of the client of NATS, in words that an operator knows.

use std::fmt;

const OF_AUTHORITY: &str = "its certificate is that of an authority: a server needs one of its own, which the authority \
                            in bus_ca_file has signed";

/// What the client says, and what it means here.
const WORDS: [(&str, &str); 5] = [
    (
        "invalid peer certificate: UnknownIssuer",
        "its certificate comes from no authority that is trusted here: bus_ca_file names a file with the authority",
    ),
    ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", OF_AUTHORITY),
    ("invalid peer certificate: CaUsedAsEndEntity", OF_AUTHORITY),
    ("failed signing nonce", "cannot sign in with the file that bus_nkey_file or bus_credentials_file names"),
    // So for a request that nobody is there to answer.
    (
        "requested JetStream resource does not exist",
        "JetStream is off on these servers, or not for this user's account",
    ),
];

/// What went wrong.
pub(super) fn in_words(error: &impl fmt::Display) -> String {
    let said = error.to_string();
    WORDS.iter().fold(said, |said, (theirs, ours)| said.replace(theirs, ours))
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn what_only_programmers_know_is_said_in_words() {
        let said = in_words(&"tls://a:4222: TLS error: invalid peer certificate: UnknownIssuer");
        assert!(
            said.starts_with("tls://a:4222: TLS error: its certificate comes from no authority"),
            "{said}"
        );
        assert!(in_words(&"invalid peer certificate: CaUsedAsEndEntity").contains("of an authority"));
        assert_eq!(in_words(&"authorization violation"), "authorization violation");
    }
}
